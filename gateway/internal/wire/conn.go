package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
)

const maxResponseHeader = 1 << 20 // bytes

// clientCheckInterval is how often a slow exchange checks that its client is still connected. Waiting for the context in a
// goroutine of its own would cost every request as much as reading the response does.
const clientCheckInterval = 250 * time.Millisecond

// earlyResponseTimeout is how long a response is read after the request could not be written to its end. Such a response is
// usually in the socket already, and a service that has none has closed the connection, so nobody waits that long. It is in
// seconds because this goroutine may not run for a while on a busy machine, and a read whose deadline has passed fails without
// looking at the socket.
const earlyResponseTimeout = 5 * time.Second

var errLongHeader = fmt.Errorf("the response header is over %d bytes", maxResponseHeader)

// conn is one connection. One request at a time uses it.
type conn struct {
	net.Conn
	in    *bufio.Reader
	out   *bufio.Writer
	stale staleCheck

	// Of the current request:
	ctx      context.Context //nolint:containedctx // Read has no argument for it
	deadline time.Time
	limit    int64 // bytes that may still be read
	answered bool  // whether a byte of the response has arrived

	expires time.Time // while it is idle in a pool
}

func newConn(raw net.Conn) *conn {
	c := &conn{Conn: raw, limit: math.MaxInt64}
	c.in, c.out = bufio.NewReader(c), bufio.NewWriter(raw)
	c.stale.prepare(raw)
	return c
}

// Read reads from the service until the deadline of the request, as long as its client is connected.
func (c *conn) Read(b []byte) (int, error) {
	if c.limit <= 0 {
		return 0, errLongHeader
	}
	b = b[:min(int64(len(b)), c.limit)]
	for {
		n, err := c.Conn.Read(b)
		if n > 0 {
			c.limit -= int64(n)
			c.answered = true
			return n, err
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.ctx.Err() != nil || clock.Left(c.deadline) <= 0 {
			return n, err
		}
		c.extendRead()
	}
}

// extendRead moves the read deadline to the next check of the client.
func (c *conn) extendRead() {
	next := clock.Deadline(clientCheckInterval)
	if c.deadline.Before(next) {
		next = c.deadline
	}
	_ = c.SetReadDeadline(next) // the read that follows fails if this does
}

// exchange writes a request and reads the header of its response.
func (c *conn) exchange(req *http.Request, host string, deadline time.Time) (*http.Response, error) {
	c.ctx, c.deadline, c.answered = req.Context(), deadline, false
	c.extendRead()
	writeErr := c.write(req, host)
	if writeErr != nil { // a service may respond and close before it has read everything: then the response is already here
		c.deadline = clock.Deadline(earlyResponseTimeout)
		c.extendRead()
	}
	runtime.Gosched() // several goroutines that have just written read one after the other, when the responses are here
	for {
		c.limit = maxResponseHeader
		res, err := http.ReadResponse(c.in, req)
		if err != nil {
			return nil, errors.Join(writeErr, err)
		}
		c.limit = math.MaxInt64
		switch {
		case res.StatusCode == http.StatusSwitchingProtocols:
			return nil, errors.New("the service switches protocols although no upgrade was requested")
		case res.StatusCode >= http.StatusOK:
			res.Close = res.Close || writeErr != nil
			return res, nil
		}
	}
}

// write writes a request.
func (c *conn) write(req *http.Request, host string) error {
	out := c.out
	out.Reset(c.Conn) // discards the error and the unsent bytes of an earlier request
	for _, part := range [...]string{req.Method, " ", req.URL.RequestURI(), " HTTP/1.1\r\nHost: ", host, "\r\n"} {
		_, _ = out.WriteString(part) // Flush returns the first error
	}
	if req.ContentLength > 0 || req.Method != http.MethodGet && req.Method != http.MethodHead {
		_, _ = out.WriteString("Content-Length: ")
		_, _ = out.WriteString(strconv.FormatInt(req.ContentLength, 10))
		_, _ = out.WriteString("\r\n")
	}
	for name, values := range req.Header {
		if name == "Content-Length" || name == "Host" || IsHopByHop(name) {
			continue
		}
		for _, value := range values {
			for _, part := range [...]string{name, ": ", value, "\r\n"} {
				_, _ = out.WriteString(part)
			}
		}
	}
	_, _ = out.WriteString("\r\n")
	if req.ContentLength > 0 {
		// Without a body the request fits into the socket's buffer and needs no deadline.
		_ = c.SetWriteDeadline(c.deadline)
		defer func() { _ = c.SetWriteDeadline(time.Time{}) }()
		if n, err := io.Copy(out, req.Body); err != nil || n != req.ContentLength {
			return errors.Join(err, fmt.Errorf("the request body has %d of %d bytes", n, req.ContentLength))
		}
	}
	// Goroutines that are ready run first: requests written back to back reach a service whose core is not idle yet, and waking
	// an idle core is a sixth of the cost of a request.
	runtime.Gosched()
	return out.Flush()
}
