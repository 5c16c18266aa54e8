// Package script has the common parts of the fakes: a queue of behaviours for the next requests, gates that block a request
// until the test releases it, a log that tests can wait for, and a loopback server. It knows no protocol but HTTP.
package script

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Step is the behaviour of a fake for one request. answer writes the default response; a step may call it, change what it
// writes, or not call it. A step that waits stops when the request's context ends: when the client disconnects or the fake
// closes.
type Step func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc)

// Queue stores the steps of a fake by key. The fake defines its keys: endpoints or event types. The zero value is ready to
// use. It is safe for concurrent use.
type Queue struct {
	mu     sync.Mutex
	next   map[string][]Step
	always map[string]Step
}

// Script appends steps for the next requests of key, one per request. After the last one, the fake answers normally again.
func (q *Queue) Script(key string, steps ...Step) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == nil {
		q.next = map[string][]Step{}
	}
	q.next[key] = append(q.next[key], steps...)
}

// Always sets the step for every request of key for which no step is queued. Pass removes it.
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

// Serve runs the next queued step of the first key that has one. If none has, it runs the step that Always set for the first
// key that has one, and otherwise answer.
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

// Start serves h on a loopback port until the test ends and returns the base URL, without a trailing slash. The contexts of all
// requests end with the test's, so no handler outlives it.
func Start(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.BaseContext = func(net.Listener) context.Context { return t.Context() }
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}
