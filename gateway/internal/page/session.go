package page

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/convoflow/convoflow/gateway/internal/guard"
	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/openapi"
	"github.com/convoflow/convoflow/libs/rpc"
)

const (
	sessionPath = "/console/session"
	// refreshLife is how long auth accepts a refresh token after it was issued.
	refreshLife = 14 * 24 * time.Hour
)

// Session stores the tokens of the console in cookies that no script can read. The gateway itself stores nothing, and auth
// verifies every token.
type Session struct {
	Auth http.Handler // forwards to auth
	Demo bool         // whether the AI is the offline one
}

// session is the schema ConsoleSession of the contract.
type session struct {
	Agent        json.RawMessage `json:"agent"`
	Renewable    bool            `json:"renewable"`
	Registration string          `json:"registration"`
	FirstRun     bool            `json:"first_run"`
	Demo         bool            `json:"demo"`
}

// Show responds with the agent of the cookie, null if there is none, and with what a page needs to know before a login. It responds
// 200 to anybody: an expired token is no error here.
func (s Session) Show() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.show(w, r, r.Header.Get("Authorization"), guard.Refresh(r) != "")
	})
}

func (s Session) show(w http.ResponseWriter, r *http.Request, authorization string, renewable bool) {
	shown := session{Agent: json.RawMessage("null"), Renewable: renewable, Demo: s.Demo}
	got := s.send(w, r, authRequest{method: http.MethodGet, path: "/auth/registration"})
	if !got.into(&shown) {
		got.forward(w, r)
		return
	}
	if authorization != "" {
		me := s.send(w, r, authRequest{method: http.MethodGet, path: "/auth/me", authorization: authorization})
		switch {
		case me.status == http.StatusOK:
			shown.Agent = me.body.Bytes()
		case me.status != http.StatusUnauthorized:
			me.forward(w, r)
			return
		}
	}
	writeJSON(w, http.StatusOK, shown)
}

// Login opens a session at auth and sets its cookies. An error of auth is forwarded as it is.
func (s Session) Login(op openapi.Operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var sent struct{ Email, Password string }
		if err := rpc.DecodeBody(op, r, &sent); err != nil {
			record.Fail(w, r, err)
			return
		}
		form := url.Values{"username": {sent.Email}, "password": {sent.Password}}
		got := s.send(w, r, authRequest{http.MethodPost, "/auth/login", "", "application/x-www-form-urlencoded", form.Encode()})
		tokens, ok := s.opened(w, r, got)
		if ok {
			s.show(w, r, "Bearer "+tokens.Access, true)
		}
	})
}

// Renew spends the refresh token of the cookie for a new pair.
func (s Session) Renew() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := s.opened(w, r, s.renew(w, r)); ok {
			w.WriteHeader(http.StatusNoContent)
		}
	})
}

func (s Session) renew(w http.ResponseWriter, r *http.Request) *answer {
	body, _ := json.Marshal(map[string]string{"refresh_token": guard.Refresh(r)}) // strings have a JSON form
	return s.send(w, r, authRequest{http.MethodPost, "/auth/refresh", "", "application/json", string(body)})
}

// Logout ends the session at auth, also if its access token has expired, and removes the cookies.
func (s Session) Logout() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if authorization := r.Header.Get("Authorization"); authorization != "" || guard.Refresh(r) != "" {
			got := s.logout(w, r, authorization)
			if got.status == http.StatusUnauthorized && guard.Refresh(r) != "" {
				if got = s.renew(w, r); got.status == http.StatusOK {
					var tokens tokens
					got.into(&tokens)
					got = s.logout(w, r, "Bearer "+tokens.Access)
				}
			}
			if got.status != http.StatusNoContent && got.status != http.StatusUnauthorized {
				got.forward(w, r) // the session goes on: the browser must not show otherwise
				return
			}
		}
		setCookies(w, r, tokens{}, -1)
		w.WriteHeader(http.StatusNoContent)
	})
}

func (s Session) logout(w http.ResponseWriter, r *http.Request, authorization string) *answer {
	return s.send(w, r, authRequest{method: http.MethodPost, path: "/auth/logout", authorization: authorization})
}

// tokens are those of an AccessToken of auth.
type tokens struct {
	Access    string `json:"access_token"`
	Refresh   string `json:"refresh_token"`
	ExpiresIn int    `json:"expires_in"` // seconds
}

// opened sets the cookies of the tokens that auth responded with. Otherwise it forwards the error, and removes the cookies if they
// are of no use any more.
func (s Session) opened(w http.ResponseWriter, r *http.Request, got *answer) (t tokens, ok bool) {
	if !got.into(&t) || t.Access == "" || t.Refresh == "" {
		if got.status == http.StatusUnauthorized && guard.Refresh(r) != "" {
			setCookies(w, r, tokens{}, -1)
		}
		got.forward(w, r)
		return t, false
	}
	setCookies(w, r, t, 1)
	return t, true
}

// setCookies sets the cookies, or removes them if life is negative.
func setCookies(w http.ResponseWriter, r *http.Request, t tokens, life int) {
	set := func(name, value, path string, seconds int) {
		http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure over https; a browser would refuse it over plain http
			Name: name, Value: value, Path: path, MaxAge: seconds * life,
			HttpOnly: true, Secure: guard.IsSecure(r), SameSite: http.SameSiteStrictMode,
		})
	}
	set(guard.AccessCookie(r), t.Access, "/", max(t.ExpiresIn, 1))
	set(guard.RefreshCookie(r), t.Refresh, sessionPath, int(refreshLife/time.Second))
	w.Header().Set("Cache-Control", "no-store")
}

// authRequest is a request to auth.
type authRequest struct{ method, path, authorization, contentType, body string }

// send sends a request to auth for the client of r: with its address, its device and the id of its request.
func (s Session) send(w http.ResponseWriter, r *http.Request, q authRequest) *answer {
	sent := r.Clone(r.Context())
	sent.Method, sent.URL = q.method, &url.URL{Path: q.path}
	sent.RequestURI = q.path
	sent.Body, sent.ContentLength, sent.TransferEncoding = io.NopCloser(strings.NewReader(q.body)), int64(len(q.body)), nil
	if q.body == "" {
		sent.Body = http.NoBody
	}
	for name, value := range map[string]string{"Authorization": q.authorization, "Content-Type": q.contentType} {
		if sent.Header.Del(name); value != "" {
			sent.Header.Set(name, value)
		}
	}
	for _, name := range []string{"Content-Length", "If-None-Match", "Idempotency-Key", "Accept-Encoding", "Range"} {
		sent.Header.Del(name)
	}
	got := &answer{ResponseWriter: w, header: http.Header{}, status: http.StatusOK}
	s.Auth.ServeHTTP(got, sent)
	return got
}

// answer is a response in memory. It unwraps to the response of the client, whose log line shows why auth failed.
type answer struct {
	http.ResponseWriter
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// into decodes a success.
func (a *answer) into(v any) bool {
	return a.status == http.StatusOK && json.Unmarshal(a.body.Bytes(), v) == nil
}

// forward sends an error of auth to the client.
func (a *answer) forward(w http.ResponseWriter, r *http.Request) {
	if a.status < http.StatusBadRequest { // a success that could not be decoded may have tokens
		record.Fail(w, r, fault.New(fault.BadGateway, "bad_gateway", "A service gave an invalid answer, try again"))
		return
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) //nolint:gosec // JSON of auth, as the proxy forwards it; fails only if the client has disconnected
}
