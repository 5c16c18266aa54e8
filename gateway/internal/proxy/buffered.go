package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/convoflow/convoflow/gateway/internal/wire"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/rpc"
)

// Buffered proxies requests with small bodies, each of which may take that long. It reads the whole body before it takes a
// slot of the service, so that slow clients block no others. It does what httputil.ReverseProxy does, but reuses the header of
// the request instead of copying it.
func (u *Upstream) Buffered(timeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		deadline := clock.Deadline(timeout)
		memory := u.options.Bodies.Buffer()
		defer memory.Release()
		if err := bufferBody(r, memory, deadline); err != nil {
			w.Header().Set("Connection", "close") // part of the body is unread
			fail(w, r, err)
			return
		}
		u.prepare(r)
		if !u.bufferedSlots.acquire(w, r) {
			return
		}
		defer u.bufferedSlots.release()
		res, err := u.send(u.buffered, r, deadline)
		if err == nil {
			defer func() { _ = res.Body.Close() }()
			err = checkResponse(r, res)
		}
		if err != nil {
			fail(w, r, err)
			return
		}
		u.forward(w, res)
	})
}

// bufferBody replaces the body of r by a copy in memory.
func bufferBody(r *http.Request, memory *rpc.Buffer, deadline time.Time) error {
	if r.ContentLength == 0 {
		return nil
	}
	body, err := memory.ReadAll(deadlineReader{r.Body, deadline}, r.ContentLength)
	if err != nil {
		return incomplete(err)
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	if len(body) == 0 {
		r.Body = http.NoBody
	}
	return nil
}

// forward writes the response of the service to the client.
func (u *Upstream) forward(w http.ResponseWriter, res *http.Response) {
	h := w.Header()
	for name, values := range res.Header {
		switch {
		case wire.IsHopByHop(name), isGatewayHeader(name):
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
		panic(http.ErrAbortHandler) // makes net/http truncate a response that has started
	}
}

// deadlineReader stops reading at the deadline: a client that sends one byte at a time never stalls.
type deadlineReader struct {
	io.Reader
	deadline time.Time
}

func (d deadlineReader) Read(p []byte) (int, error) {
	if clock.Left(d.deadline) < 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return d.Reader.Read(p)
}

// pooled sends buffered requests over the connections of a wire.Pool.
type pooled struct{ *wire.Pool }

func (c pooled) do(req *http.Request, deadline time.Time, p *progress) (*http.Response, error) {
	res, err := c.Do(req, deadline)
	var failed *wire.Error
	if errors.As(err, &failed) {
		p.sent.Add(int64(failed.Sent))
		p.answered.Store(failed.Answered)
	}
	return res, err
}
