package pgtest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// Proxy stands between a client and the test's server, and can cut their connections. It is safe for concurrent use.
type Proxy struct {
	server string // address
	url    string

	mu    sync.Mutex
	away  bool
	conns map[net.Conn]bool
	at    *cut

	requests atomic.Int64
}

// cut says when to cut by itself.
type cut struct {
	after, text []byte
	delivered   bool
	done        chan struct{}
}

// NewProxy returns a proxy for the server at a URL.
func NewProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal("not a URL of a server")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	p := &Proxy{server: u.Host, conns: map[net.Conn]bool{}}
	u.Host = listener.Addr().String()
	p.url = withParameter(u, "sslmode", "disable")
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(t.Context(), client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.Cut()
		running.Wait()
	})
	return p
}

// URL returns the connection string of the proxy.
func (p *Proxy) URL() string { return p.url }

// Cut closes all connections and refuses new ones, until Restore.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// Restore accepts connections again.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away, p.at = false, nil
}

// CutAt cuts when a connection that has sent the text after sends text. With delivered, that message still reaches the server, and
// the connections are cut when the server has answered it. done is closed then.
func (p *Proxy) CutAt(after, text string, delivered bool) (done <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = &cut{[]byte(after), []byte(text), delivered, make(chan struct{})}
	return p.at.done
}

// Requests returns how many messages clients have sent. A client waits for an answer after each, so they are round trips.
func (p *Proxy) Requests() int { return int(p.requests.Load()) }

func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.server)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if !p.add(client, server) {
		return
	}
	defer p.remove(client, server)
	l := &link{proxy: p}
	var answers sync.WaitGroup
	answers.Go(func() {
		_, _ = io.Copy(answerWriter{client, l}, server)
		_ = client.Close()
	})
	_, _ = io.Copy(requestWriter{server, l}, client)
	_ = server.Close()
	answers.Wait()
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return !p.away
}

func (p *Proxy) remove(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// link is the state of one connection.
type link struct {
	proxy *Proxy
	mu    sync.Mutex
	armed bool // the text after was sent
	last  bool // the next answer of the server is that of the last message
}

func (l *link) cut(c *cut) {
	l.proxy.Cut()
	close(c.done)
}

type requestWriter struct {
	net.Conn
	*link
}

func (w requestWriter) Write(b []byte) (int, error) {
	w.proxy.requests.Add(1)
	w.proxy.mu.Lock()
	at := w.proxy.at
	w.proxy.mu.Unlock()
	if at == nil {
		return w.Conn.Write(b)
	}
	w.mu.Lock()
	w.armed = w.armed || bytes.Contains(b, at.after)
	hit := w.armed && bytes.Contains(b, at.text)
	w.last = w.last || hit && at.delivered
	w.mu.Unlock()
	if hit && !at.delivered {
		w.cut(at)
		return 0, io.ErrClosedPipe
	}
	return w.Conn.Write(b)
}

type answerWriter struct {
	net.Conn
	*link
}

func (w answerWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	last := w.last
	w.mu.Unlock()
	if !last {
		return w.Conn.Write(b)
	}
	w.proxy.mu.Lock()
	at := w.proxy.at
	w.proxy.mu.Unlock()
	w.cut(at)
	return 0, io.ErrClosedPipe
}
