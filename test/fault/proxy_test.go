package fault

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proxy forwards TCP connections to a database, and misbehaves when told to. It is safe for concurrent use.
type proxy struct {
	address string
	target  func() string

	mu    sync.Mutex
	conns map[net.Conn]bool // of the clients

	refusing  atomic.Bool  // close every connection, old and new
	hanging   atomic.Bool  // accept and forward nothing
	cutBefore atomic.Int64 // so many commits are cut before they reach the server
	cutAfter  atomic.Int64 // so many commits are forwarded and their answers cut
	commits   atomic.Int64 // commits cut so far
}

// startProxy listens until the test ends.
func startProxy(t testing.TB, target func() string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{address: l.Addr().String(), target: target, conns: map[net.Conn]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() { accept(l, func(conn net.Conn) { serving.Go(func() { p.serve(conn) }) }) })
	t.Cleanup(func() {
		_ = l.Close()
		p.refusing.Store(true)
		p.closeAll()
		serving.Wait()
	})
	return p
}

// accept passes each connection to start until the listener is closed.
func accept(l net.Listener, start func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		start(conn)
	}
}

// cut closes all connections, and new ones until heal.
func (p *proxy) cut() {
	p.refusing.Store(true)
	p.closeAll()
}

// drop closes all connections that are open.
func (p *proxy) drop() { p.closeAll() }

// hang keeps all connections open and forwards nothing until heal.
func (p *proxy) hang() { p.hanging.Store(true) }

// heal ends cut and hang. A connection that hung is closed: what it should have forwarded is lost.
func (p *proxy) heal() {
	hung := p.hanging.Swap(false)
	p.refusing.Store(false)
	p.cutBefore.Store(0)
	p.cutAfter.Store(0)
	if hung {
		p.closeAll()
	}
}

func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	p.mu.Lock()
	p.conns[client] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.conns, client)
		p.mu.Unlock()
	}()
	if p.refusing.Load() {
		return
	}
	server, err := net.Dial("tcp", p.target())
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var muted atomic.Bool // the answer to a commit is cut
	var copying sync.WaitGroup
	copying.Go(func() {
		defer func() { _ = client.Close(); _ = server.Close() }()
		p.forward(server, client, func([]byte) bool { return !muted.Load() })
	})
	p.forward(client, server, func(chunk []byte) bool {
		if !bytes.Contains(chunk, commit) {
			return true
		}
		if take(&p.cutBefore) {
			p.commits.Add(1)
			return false
		}
		if take(&p.cutAfter) {
			p.commits.Add(1)
			muted.Store(true)
		}
		return true
	})
	_ = server.Close()
	copying.Wait()
}

// commit is the message of PostgreSQL's simple query protocol with which pgx ends a transaction.
var commit = []byte("Q\x00\x00\x00\x0bcommit\x00")

// take reports whether n was positive, and decrements it.
func take(n *atomic.Int64) bool {
	for {
		left := n.Load()
		if left <= 0 {
			return false
		}
		if n.CompareAndSwap(left, left-1) {
			return true
		}
	}
}

// forward copies until either side ends or pass refuses a chunk.
func (p *proxy) forward(from, to net.Conn, pass func([]byte) bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		for p.hanging.Load() { // until heal closes the connection
			if _, err := from.Read(buffer); err != nil {
				return
			}
		}
		if n > 0 {
			if !pass(buffer[:n]) {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// balancer spreads TCP connections over the replicas of a service, as a Kubernetes Service does: over those that are ready, or
// over all when none is.
type balancer struct {
	address  string
	replicas []*replica
	next     atomic.Int64
}

const probeInterval, probeTimeout = 300 * time.Millisecond, 2 * time.Second

func startBalancer(t testing.TB, address string, replicas []*replica) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	b := &balancer{address: address, replicas: replicas}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var serving sync.WaitGroup
	serving.Go(func() { accept(l, func(conn net.Conn) { serving.Go(func() { b.serve(ctx, conn) }) }) })
	for _, r := range replicas {
		serving.Go(func() { b.probe(ctx, r) })
	}
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		serving.Wait()
	})
}

// probe asks a replica for its readiness until ctx ends.
func (b *balancer) probe(ctx context.Context, r *replica) {
	client := &http.Client{Timeout: probeTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		response, err := client.Get("http://" + r.address + "/ready")
		if err == nil {
			_ = response.Body.Close()
		}
		r.ready.Store(err == nil && response.StatusCode == http.StatusOK)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (b *balancer) serve(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	server := b.dial()
	if server == nil {
		return
	}
	defer func() { _ = server.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = client.Close(); _ = server.Close() })
	defer stop()
	var copying sync.WaitGroup
	copying.Go(func() {
		defer func() { _ = client.Close() }()
		_, _ = io.Copy(client, server)
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	copying.Wait()
}

func (b *balancer) dial() net.Conn {
	first := int(b.next.Add(1))
	var candidates []*replica
	for i := range b.replicas {
		if r := b.replicas[(first+i)%len(b.replicas)]; !r.leaving.Load() {
			candidates = append(candidates, r)
		}
	}
	// Those that are ready first, in turn.
	slices.SortStableFunc(candidates, func(a, b *replica) int {
		switch x, y := a.ready.Load(), b.ready.Load(); {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	})
	for _, r := range candidates {
		if conn, err := net.DialTimeout("tcp", r.address, time.Second); err == nil {
			return conn
		}
	}
	return nil
}
