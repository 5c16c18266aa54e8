package proxy

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
)

// Quick passes requests on that may take that long and whose bodies are small. A body is taken in as a whole before the
// service hears of it: who sends slowly takes no place of others. It does what a ReverseProxy does, and makes no copy of the
// request's header, which nobody needs afterwards.
func (u *Upstream) Quick(timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		deadline := clock.System{}.Now().Add(timeout)
		if err := u.takeIn(r, deadline); err != nil {
			fail(w, r, err)
			return
		}
		if !u.quick.enter(w, r) {
			return
		}
		defer u.quick.leave()
		res, err := u.send(u.quickly, r, deadline)
		if err == nil {
			defer func() { _ = res.Body.Close() }()
			err = foreign(res)
		}
		if err != nil {
			fail(w, r, err)
			return
		}
		u.answer(w, res)
	})
}

// takeIn makes r the request that the service gets.
func (u *Upstream) takeIn(r *http.Request, deadline time.Time) error {
	if r.ContentLength != 0 {
		body, err := io.ReadAll(timed{r.Body, deadline})
		if err != nil {
			return incomplete(err)
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		if len(body) == 0 {
			r.Body = http.NoBody
		}
	}
	u.prepare(r)
	return nil
}

// answer passes an answer on.
func (u *Upstream) answer(w http.ResponseWriter, res *http.Response) {
	h := w.Header()
	for name, values := range res.Header {
		switch {
		case isHopByHop(name), isOurs(name):
		case h[name] == nil:
			h[name] = values
		default:
			h[name] = append(h[name], values...)
		}
	}
	w.WriteHeader(res.StatusCode)
	buffer := u.buffers.Get()
	defer u.buffers.Put(buffer)
	if _, err := io.CopyBuffer(w, res.Body, buffer); err != nil {
		panic(http.ErrAbortHandler) // how net/http is told to cut an answer that has begun
	}
}

// timed is a body whose reading has an end: a client that sends a byte now and then never stalls.
type timed struct {
	io.Reader
	deadline time.Time
}

func (t timed) Read(p []byte) (int, error) {
	if (clock.System{}).Now().After(t.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	return t.Reader.Read(p)
}

// isHopByHop reports whether a header is about one connection only, RFC 9110 section 7.6.1.
func isHopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}
