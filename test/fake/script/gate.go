package script

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// Timeout is how long the waits that take a test last before they fail it. It is long enough for a busy machine. A wait with
// another limit takes a context.
const Timeout = 2 * time.Minute

// Gate holds a request until a test lets it go, so that the test can do something, a kill -9 say, at exactly that moment.
// It may stand in the way of several requests.
type Gate struct {
	arrive, release sync.Once
	arrived, open   chan struct{}
}

// NewGate makes a closed gate.
func NewGate() *Gate { return &Gate{arrived: make(chan struct{}), open: make(chan struct{})} }

// Step is the gate as a step: the answer follows once the gate is open. Nobody is answered whose client has gone.
func (g *Gate) Step(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
	g.arrive.Do(func() { close(g.arrived) })
	select {
	case <-g.open:
		answer(w, r)
	case <-r.Context().Done():
	}
}

// Arrived is closed once a request stands at the gate.
func (g *Gate) Arrived() <-chan struct{} { return g.arrived }

// Wait returns once a request stands at the gate, and fails the test after Timeout.
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

// Release opens the gate for good.
func (g *Gate) Release() { g.release.Do(func() { close(g.open) }) }
