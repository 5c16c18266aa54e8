package script

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// Timeout is how long Wait and WaitFor wait before they fail the test. It is long enough for a busy machine.
const Timeout = 2 * time.Minute

// Gate blocks requests until the test releases it, so that the test can do something, such as kill -9, while a request is in
// progress. Several requests may use the same gate.
type Gate struct {
	arrive, release sync.Once
	arrived, open   chan struct{}
}

// NewGate returns a closed gate.
func NewGate() *Gate { return &Gate{arrived: make(chan struct{}), open: make(chan struct{})} }

// Step blocks the request until the gate is released, then answers. It does not answer a client that has disconnected.
func (g *Gate) Step(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
	g.arrive.Do(func() { close(g.arrived) })
	select {
	case <-g.open:
		answer(w, r)
	case <-r.Context().Done():
	}
}

// Arrived returns a channel that is closed when the first request reaches the gate.
func (g *Gate) Arrived() <-chan struct{} { return g.arrived }

// Wait waits until a request has reached the gate.
func (g *Gate) Wait(t testing.TB) {
	t.Helper()
	timer := time.NewTimer(Timeout)
	defer timer.Stop()
	select {
	case <-g.arrived:
	case <-timer.C:
		t.Fatalf("no request reached the gate within %s", Timeout)
	}
}

// Release opens the gate permanently.
func (g *Gate) Release() { g.release.Do(func() { close(g.open) }) }
