package script

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// Timeout is how long waits with a test as argument wait before they fail it. It is long enough for a busy machine. Waits with
// a context have no other limit.
const Timeout = 2 * time.Minute

// Gate blocks requests until a test releases them, so that the test can do something, such as kill -9, at exactly that moment.
// It may block several requests.
type Gate struct {
	arrive, release sync.Once
	arrived, open   chan struct{}
}

// NewGate returns a closed gate.
func NewGate() *Gate { return &Gate{arrived: make(chan struct{}), open: make(chan struct{})} }

// Step returns the gate as a step: the response follows once the gate is open, unless the client has disconnected.
func (g *Gate) Step(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
	g.arrive.Do(func() { close(g.arrived) })
	select {
	case <-g.open:
		answer(w, r)
	case <-r.Context().Done():
	}
}

// Arrived returns a channel that is closed once a request waits at the gate.
func (g *Gate) Arrived() <-chan struct{} { return g.arrived }

// Wait returns once a request waits at the gate, and fails the test after Timeout.
func (g *Gate) Wait(t testing.TB) {
	t.Helper()
	timer := time.NewTimer(Timeout)
	defer timer.Stop()
	select {
	case <-g.arrived:
	case <-timer.C:
		t.Fatalf("no request came to the gate within %s", Timeout)
	}
}

// Release opens the gate permanently.
func (g *Gate) Release() { g.release.Do(func() { close(g.open) }) }
