// Package clock is the only place that reads the time, so that tests can set it. It refuses timers and time zones.
//
// A Clock is handed to what needs to know what time it is; only what wires a process makes the System. Where only the length of
// an interval counts, as for the timeout of a socket, no Clock is needed: Stopwatch and Deadline measure it.
package clock

import (
	"sync"
	"time"
)

// Clock returns the current time in UTC, with the microsecond precision of PostgreSQL.
type Clock interface {
	Now() time.Time
}

// System is the system clock.
type System struct{}

// Now returns the system time.
func (System) Now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// Manual is a clock for tests that changes only by Advance. It is safe for concurrent use.
type Manual struct {
	mu  sync.Mutex
	now time.Time
}

// At returns a manual clock set to t.
func At(t time.Time) *Manual { return &Manual{now: t.UTC()} }

// Now returns the time that the clock is set to.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Advance moves the clock by d.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(d)
}
