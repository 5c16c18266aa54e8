// Package script is what the fakes have in common: a queue of behaviours for the next requests, gates that hold a request until
// a test lets it go, a log that can be waited for, and a loopback server. It knows no protocol but HTTP.
package script

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// A Step is how a fake behaves for one request. answer is what the fake would say by itself; a step may call it, change what
// it says, or not call it at all. A step that waits stops when the request's context ends: the client has gone, or the fake
// is closing.
type Step func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc)

// Queue holds the steps of a fake by key: an endpoint or an event type, as the fake says. The zero value is empty and ready;
// it is safe for concurrent use.
type Queue struct {
	mu     sync.Mutex
	next   map[string][]Step
	always map[string]Step
}

// Script appends steps for the next requests of key, one each. After the last the fake behaves by itself again.
func (q *Queue) Script(key string, steps ...Step) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == nil {
		q.next = map[string][]Step{}
	}
	q.next[key] = append(q.next[key], steps...)
}

// Always sets what happens to every request of key for which no step is queued, until it is set again; Pass undoes it.
func (q *Queue) Always(key string, step Step) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.always == nil {
		q.always = map[string]Step{}
	}
	q.always[key] = step
}

// Hold queues a gate for the next request of key.
func (q *Queue) Hold(key string) *Gate {
	g := NewGate()
	q.Script(key, g.Step)
	return g
}

// Serve plays the next step of the first of keys that has one queued, else the first that has one set by Always, else answer.
func (q *Queue) Serve(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc, keys ...string) {
	q.take(keys)(w, r, answer)
}

func (q *Queue) take(keys []string) Step {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, key := range keys {
		if steps := q.next[key]; len(steps) > 0 {
			q.next[key] = steps[1:]
			return steps[0]
		}
	}
	for _, key := range keys {
		if step, ok := q.always[key]; ok {
			return step
		}
	}
	return Pass
}

// Start serves h on a loopback port until the test ends and gives the base URL, without a slash at the end. The context of
// every request ends with the test's, so nothing that hangs outlives it.
func Start(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.BaseContext = func(net.Listener) context.Context { return t.Context() }
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}
