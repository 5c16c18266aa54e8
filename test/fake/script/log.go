package script

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// Log is what a fake has received, in order. The zero value is an empty log. It is safe for concurrent use.
type Log[T any] struct {
	mu      sync.Mutex
	items   []T
	changed chan struct{} // closed at the next Add; nil without waiters
}

// Add appends an item and notifies waiters.
func (l *Log[T]) Add(items ...T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items = append(l.items, items...)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// All returns a copy of what has been received so far.
func (l *Log[T]) All() []T {
	items, _ := l.look()
	return items
}

// Wait returns what has been received once done returns true, or an error if ctx ends before that.
func (l *Log[T]) Wait(ctx context.Context, done func([]T) bool) ([]T, error) {
	for {
		items, changed := l.look()
		if done(items) {
			return items, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return items, fmt.Errorf("wait for more than %d received: %w", len(items), ctx.Err())
		}
	}
}

// WaitFor is Wait for a test: it fails the test after Timeout.
func (l *Log[T]) WaitFor(t testing.TB, done func([]T) bool) []T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	items, err := l.Wait(ctx, done)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

func (l *Log[T]) look() ([]T, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return slices.Clone(l.items), l.changed
}
