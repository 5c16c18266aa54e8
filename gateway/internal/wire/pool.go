package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
)

// Dial connects to a service, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Options configure a Pool.
type Options struct {
	Dial        Dial          // with its own timeout
	MaxIdle     int           // idle connections
	IdleTimeout time.Duration // after which an idle connection is closed; less than the service's idle timeout
}

// Pool sends requests to one service. It is safe for concurrent use.
type Pool struct {
	host    string // of the Host header
	address string // host:port
	options Options

	mu     sync.Mutex
	idle   []*conn // ordered by last use, the most recent at the end
	closed bool
	sweep  *time.Timer // fires when the first idle connection has timed out
}

// New returns a pool for the service at base, such as http://calls:8080. Its scheme must be http.
func New(base *url.URL, o Options) *Pool {
	p := &Pool{host: base.Host, address: base.Host, options: o}
	if base.Port() == "" {
		p.address = net.JoinHostPort(base.Hostname(), "80")
	}
	p.sweep = time.AfterFunc(o.IdleTimeout, p.closeExpired)
	return p
}

// Error is how Do fails once it has a connection.
type Error struct {
	Sent     int  // times the request was sent, at least in part: 1 or 2
	Answered bool // whether a byte of a response arrived
	Err      error
}

func (e *Error) Error() string { return fmt.Sprintf("exchange with the service: %v", e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Do sends a request with its body of req.ContentLength bytes, which must be in memory, and returns when the header of the
// response has arrived. The deadline, which must be set, is that of the response body too. The caller closes the body. Once
// it had a connection it fails with an Error; a *net.OpError with Op "dial" means that the service could not be reached.
func (p *Pool) Do(req *http.Request, deadline time.Time) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, fmt.Errorf("before the request was sent: %w", err)
	}
	reused := 0
	if c := p.take(); c != nil {
		res, err := p.exchange(c, req, deadline)
		if err == nil {
			return res, nil
		}
		if !isRepeatable(req) || c.answered || errors.Is(err, os.ErrDeadlineExceeded) || req.Context().Err() != nil {
			return nil, &Error{Sent: 1, Answered: c.answered, Err: err}
		}
		reused = 1
	}
	raw, err := p.options.Dial(req.Context(), "tcp", p.address)
	if err != nil {
		if reused > 0 {
			return nil, &Error{Sent: reused, Err: err}
		}
		return nil, fmt.Errorf("connect to the service: %w", err)
	}
	c := newConn(raw)
	res, err := p.exchange(c, req, deadline)
	if err != nil {
		return nil, &Error{Sent: reused + 1, Answered: c.answered, Err: err}
	}
	return res, nil
}

// isRepeatable reports whether a request that the service may have received can be sent again.
func isRepeatable(req *http.Request) bool {
	return (req.Method == http.MethodGet || req.Method == http.MethodHead) && req.ContentLength == 0
}

func (p *Pool) exchange(c *conn, req *http.Request, deadline time.Time) (*http.Response, error) {
	res, err := c.exchange(req, p.host, deadline)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	res.Body = &responseBody{ReadCloser: res.Body, conn: c, pool: p, last: res.Close}
	return res, nil
}

// Close closes the idle connections now and the others when their response has been read.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle, p.closed = nil, true
	p.sweep.Stop()
}

// take removes an idle connection that can be used from the pool, nil if there is none.
func (p *Pool) take() *conn {
	for {
		c := p.pop()
		if c == nil || !c.isStale() {
			return c
		}
		_ = c.Close()
	}
}

func (p *Pool) pop() *conn {
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

func (p *Pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) == p.options.MaxIdle {
		_ = c.Close()
		return
	}
	c.expires = clock.Deadline(p.options.IdleTimeout)
	p.idle = append(p.idle, c)
	if len(p.idle) == 1 {
		p.sweep.Reset(p.options.IdleTimeout)
	}
}

func (p *Pool) closeExpired() {
	p.mu.Lock()
	defer p.mu.Unlock()
	expired := 0
	for ; expired < len(p.idle) && clock.Left(p.idle[expired].expires) <= 0; expired++ {
		_ = p.idle[expired].Close()
	}
	p.idle = slices.Delete(p.idle, 0, expired)
	if len(p.idle) > 0 {
		p.sweep.Reset(clock.Left(p.idle[0].expires))
	}
}

// responseBody returns its connection to the pool when it is closed after it was read to its end.
type responseBody struct {
	io.ReadCloser
	conn *conn // nil once closed
	pool *Pool
	last bool // response on this connection
	read bool // to its end
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read = b.read || errors.Is(err, io.EOF)
	return n, err
}

func (b *responseBody) Close() error {
	c := b.conn
	if c == nil {
		return nil
	}
	b.conn = nil
	c.ctx = nil
	if b.read && !b.last && c.in.Buffered() == 0 {
		b.pool.put(c)
		return nil
	}
	return c.Close()
}
