package script

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// Log records what a fake has received, in order. The zero value is ready to use. It is safe for concurrent use.
type Log[T any] struct {
	mu      sync.Mutex
	items   []T
	changed chan struct{} // closed at the next Add; nil if nothing waits
}

// Add appends items and wakes the waiters.
func (l *Log[T]) Add(items ...T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items = append(l.items, items...)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// All returns a copy of all items so far.
func (l *Log[T]) All() []T {
	items, _ := l.snapshot()
	return items
}

// Wait waits until done returns true for the items so far, and returns them. It fails when ctx ends first.
func (l *Log[T]) Wait(ctx context.Context, done func([]T) bool) ([]T, error) {
	for {
		items, changed := l.snapshot()
		if done(items) {
			return items, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return items, fmt.Errorf("wait for more than %d items: %w", len(items), ctx.Err())
		}
	}
}

// WaitFor is Wait with Timeout as its limit; it fails the test.
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

func (l *Log[T]) snapshot() ([]T, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return slices.Clone(l.items), l.changed
}
