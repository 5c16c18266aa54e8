// Package script is the common part of the fakes: a queue of behaviors for the next requests, gates that block a request until
// a test releases it, a log to wait for, and a loopback server. It knows no protocol but HTTP.
package script

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// A Step is how a fake behaves for one request. answer is the fake's default response; a step may call it, change its response,
// or not call it. A step that waits stops when the request's context ends: the client has disconnected, or the fake is closing.
type Step func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc)

// Queue has the steps of a fake by key: an endpoint or an event type, as the fake defines. The zero value is an empty queue. It
// is safe for concurrent use.
type Queue struct {
	mu     sync.Mutex
	next   map[string][]Step
	always map[string]Step
}

// Script appends steps for the next requests of key, one each. After the last one the fake responds by default again.
func (q *Queue) Script(key string, steps ...Step) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == nil {
		q.next = map[string][]Step{}
	}
	q.next[key] = append(q.next[key], steps...)
}

// Always sets the step of every request of key for which no step is queued, until it is set again; Pass resets it.
func (q *Queue) Always(key string, step Step) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.always == nil {
		q.always = map[string]Step{}
	}
	q.always[key] = step
}

// Block queues a gate for the next request of key.
func (q *Queue) Block(key string) *Gate {
	g := NewGate()
	q.Script(key, g.Step)
	return g
}

// Serve runs the next step of the first of keys that has one queued, else of the first that has one set by Always, else answer.
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

// Start serves h on a loopback port until the test ends and returns the base URL, without a trailing slash. The context of
// every request ends with the test's, so no blocked request outlives it.
func Start(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.BaseContext = func(net.Listener) context.Context { return t.Context() }
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}
