package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
)

const maxAnswerHeader = 1 << 20 // bytes

// conns are the HTTP/1.1 connections to one service for requests that are in memory. One goroutine writes the request and
// reads the answer, the one that serves the client: net/http's Transport, which has two more for each connection, costs as
// much as all the rest that a gateway does for a small request. What the bytes of an answer mean is still net/http's to
// say. See docs/adr/0012.
type conns struct {
	host    string // for the header
	address string // with the port
	dialer  net.Dialer

	mu     sync.Mutex
	idle   []*conn // the last to be used is the first to be used again
	closed bool
	// sweep runs once nobody has used the first of them for long.
	sweep *time.Timer
}

func newConns(base *url.URL) *conns {
	p := &conns{host: base.Host, address: base.Host, dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}}
	if base.Port() == "" {
		p.address = net.JoinHostPort(base.Hostname(), "80")
	}
	p.sweep = time.AfterFunc(idleTimeout, p.closeUnused)
	return p
}

// do sends a request whose body, if there is any, is in memory. Only a connection on which the service still listens, and
// has said nothing since its last answer, is used again. When it hangs up at that very moment, a GET is sent once more.
func (p *conns) do(req *http.Request, deadline time.Time, a *attempts) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, fmt.Errorf("before it was sent: %w", err)
	}
	if c := p.take(); c != nil {
		res, err := p.exchange(c, req, deadline, a)
		safe := (req.Method == http.MethodGet || req.Method == http.MethodHead) && req.ContentLength == 0
		if err == nil || !safe || a.answered.Load() || isTimeout(err) || req.Context().Err() != nil {
			return res, err
		}
	}
	c, err := p.dialer.DialContext(req.Context(), "tcp", p.address)
	if err != nil {
		return nil, fmt.Errorf("connect to the service: %w", err)
	}
	return p.exchange(newConn(c), req, deadline, a)
}

func (p *conns) exchange(c *conn, req *http.Request, deadline time.Time, a *attempts) (*http.Response, error) {
	a.reached()
	res, err := c.exchange(req, p.host, deadline)
	if err != nil {
		a.answered.Store(c.answered)
		_ = c.Close()
		return nil, fmt.Errorf("exchange with the service: %w", err)
	}
	res.Body = &answerBody{ReadCloser: res.Body, conn: c, pool: p, last: res.Close}
	return res, nil
}

func (p *conns) take() *conn {
	for {
		c := p.pop()
		if c == nil || !c.hungUp() {
			return c
		}
		_ = c.Close()
	}
}

func (p *conns) pop() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle[last], p.idle = nil, p.idle[:last]
	return c
}

func (p *conns) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) == idleConns {
		_ = c.Close()
		return
	}
	p.idle = append(p.idle, c)
	if len(p.idle) == 1 {
		p.sweep.Reset(idleTimeout)
	}
}

func (p *conns) closeUnused() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, unused := clock.System{}.Now(), 0
	for ; unused < len(p.idle) && now.Sub(p.idle[unused].began) >= idleTimeout; unused++ {
		_ = p.idle[unused].Close()
	}
	p.idle = slices.Delete(p.idle, 0, unused)
	if len(p.idle) > 0 {
		p.sweep.Reset(idleTimeout - now.Sub(p.idle[0].began))
	}
}

// close ends the connections that nobody uses, and those in use when their answer has been read.
func (p *conns) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle, p.closed = nil, true
	p.sweep.Stop()
}

// conn is one connection. Whoever took it out of the pool is the only one to use it.
type conn struct {
	net.Conn
	in    *bufio.Reader
	out   *bufio.Writer
	probe probe

	// Of the last request:
	ctx             context.Context //nolint:containedctx // a reader has no other way to know it
	began, deadline time.Time
	left            int64 // that may still be read: a header has an end
	answered        bool
}

// look is how often it is looked whether the client of a request that takes long is still there. To be told by its context
// would cost every request as much as reading the answer.
const look = 250 * time.Millisecond

func newConn(c net.Conn) *conn {
	made := &conn{Conn: c, left: math.MaxInt64}
	made.in, made.out = bufio.NewReader(made), bufio.NewWriter(c)
	made.probe.watch(c)
	return made
}

var errLongHeader = fmt.Errorf("its header is over %d bytes", maxAnswerHeader)

func (c *conn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errLongHeader
	}
	b = b[:min(int64(len(b)), c.left)]
	for {
		n, err := c.Conn.Read(b)
		if n > 0 {
			c.left -= int64(n)
			c.answered = true
			return n, err
		}
		now := clock.System{}.Now()
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.ctx.Err() != nil || !now.Before(c.deadline) {
			return n, err
		}
		c.wait(now)
	}
}

// wait lets the next reading take a while.
func (c *conn) wait(now time.Time) {
	next := now.Add(look)
	if c.deadline.Before(next) {
		next = c.deadline
	}
	_ = c.SetReadDeadline(next) // what follows fails if this does
}

// exchange writes a request and reads the header of the answer.
func (c *conn) exchange(req *http.Request, host string, deadline time.Time) (*http.Response, error) {
	c.ctx, c.began, c.deadline, c.answered = req.Context(), clock.System{}.Now(), deadline, false
	c.wait(c.began)
	sent := c.send(req, host)
	if sent != nil { // a service may answer and hang up before it has read everything: then the answer is here
		c.deadline = c.began
	}
	runtime.Gosched() // and those who have written read together: by then the answers are there
	for {
		c.left = maxAnswerHeader
		res, err := http.ReadResponse(c.in, req)
		if err != nil {
			return nil, errors.Join(sent, err)
		}
		c.left = math.MaxInt64
		switch {
		case res.StatusCode == http.StatusSwitchingProtocols:
			return nil, errors.New("it switches protocols without being asked")
		case res.StatusCode >= http.StatusOK:
			res.Close = res.Close || sent != nil
			return res, nil
		}
	}
}

// send writes a request. Its URL and header come from net/http's server, which lets no control characters in, and its path
// begins with a slash, or the Mux had refused it.
func (c *conn) send(req *http.Request, host string) error {
	out := c.out
	out.Reset(c.Conn) // forgets an error, and what was left of a request that had one
	for _, part := range [...]string{req.Method, " ", req.URL.RequestURI(), " HTTP/1.1\r\nHost: ", host, "\r\n"} {
		_, _ = out.WriteString(part) // Flush tells
	}
	if req.ContentLength > 0 || req.Method != http.MethodGet && req.Method != http.MethodHead {
		_, _ = out.WriteString("Content-Length: ")
		_, _ = out.WriteString(strconv.FormatInt(req.ContentLength, 10))
		_, _ = out.WriteString("\r\n")
	}
	for name, values := range req.Header {
		if name == "Content-Length" || isHopByHop(name) {
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
		_ = c.SetWriteDeadline(c.deadline)
		defer func() { _ = c.SetWriteDeadline(time.Time{}) }() // without a body it fits into the buffers of the connection
		if _, err := io.Copy(out, req.Body); err != nil {
			return err
		}
	}
	// Who else is ready goes first: requests that are written one right after the other find the service still awake, and
	// waking a core that sleeps is a sixth of what a request costs.
	runtime.Gosched()
	return out.Flush()
}

// answerBody is the body of an answer. Once it has been read to its end, the connection can be used again.
type answerBody struct {
	io.ReadCloser
	conn  *conn
	pool  *conns
	last  bool // on this connection
	whole bool
}

func (a *answerBody) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	a.whole = a.whole || errors.Is(err, io.EOF)
	return n, err
}

func (a *answerBody) Close() error {
	c := a.conn
	if c == nil {
		return nil
	}
	a.conn = nil
	c.ctx = nil
	if a.whole && !a.last && c.in.Buffered() == 0 {
		a.pool.put(c)
		return nil
	}
	return c.Close()
}
