package script

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"
)

// Pass is the fake's default response.
func Pass(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) { answer(w, r) }

// Then combines two steps: second is the response that first may call. Then(Slow(d), TruncateBody) waits and truncates.
func Then(first, second Step) Step {
	return func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
		first(w, r, func(w http.ResponseWriter, r *http.Request) { second(w, r, answer) })
	}
}

// Hang never responds: it waits until the client disconnects or the fake closes.
func Hang(_ http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { <-r.Context().Done() }

// Slow waits d before the response.
func Slow(d time.Duration) Step {
	return func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
		if pause(r, d) {
			answer(w, r)
		}
	}
}

// TruncateBody declares the length of the response, sends half of it and closes the connection.
func TruncateBody(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
	whole := httptest.NewRecorder()
	answer(whole, r)
	body := whole.Body.Bytes()
	copyHeader(w, whole.Header())
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(whole.Code)
	_, _ = w.Write(body[:len(body)/2]) // net/http closes a connection that got less than was declared
}

// NotJSON responds with 200 and the HTML page of a proxy.
func NotJSON(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, "<html><body><h1>502 Bad Gateway</h1></body></html>")
}

// Redirect responds with 302 to location.
func Redirect(location string) Step {
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		http.Redirect(w, r, location, http.StatusFound)
	}
}

// EndlessBody responds with 200 and sends bytes until the client disconnects.
func EndlessBody(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	chunk := make([]byte, 32<<10)
	for r.Context().Err() == nil {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// SlowLoris sends one byte of the response header per interval and never completes it.
func SlowLoris(interval time.Duration) Step {
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer func() { _ = conn.Close() }()
		send := func(s string) bool {
			for i := range len(s) {
				if _, err := io.WriteString(conn, s[i:i+1]); err != nil || !pause(r, interval) {
					return false
				}
			}
			return true
		}
		for ok := send("HTTP/1.1 200 OK\r\n"); ok; {
			ok = send("X-Slow: a\r\n")
		}
	}
}

// pause waits d and reports whether the client is still connected.
func pause(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func copyHeader(w http.ResponseWriter, from http.Header) {
	for name, values := range from {
		w.Header()[name] = values
	}
}
