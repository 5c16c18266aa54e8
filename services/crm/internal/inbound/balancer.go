package inbound

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
)

const (
	countEvery = 10 * time.Second // the age of the counts of open leads after which they are read again
	checkEvery = time.Second      // the age after which it is checked again that an agent works
)

// Loads counts the open leads of each active agent.
type Loads interface {
	Loads(ctx context.Context) (map[string]int, error)
}

// Team knows who works. Check fails with a NotFound or Conflict fault for somebody who does not.
type Team interface {
	Check(ctx context.Context, agentID string) error
}

// Balancer chooses the active agent with the fewest open leads. It counts in the database every 10 s, and adds what it has given out
// since, so that leads that arrive at once are spread without a lock (ADR 33). It is safe for concurrent use.
type Balancer struct {
	loads Loads
	team  Team
	clock clock.Clock

	reading sync.Mutex // held while the counts are read
	mu      sync.Mutex // guards what follows
	open    map[string]int
	pending map[string]int // given out, and not committed yet
	readAt  time.Time
	checked map[string]time.Time // when an agent was last found to work
}

// NewBalancer returns a balancer.
func NewBalancer(loads Loads, team Team, c clock.Clock) *Balancer {
	return &Balancer{loads: loads, team: team, clock: c, pending: map[string]int{}, checked: map[string]time.Time{}}
}

// Next returns the agent for a new lead, nil if nobody works. The caller must call done, with whether the agent got the lead.
func (b *Balancer) Next(ctx context.Context) (agentID *string, done func(used bool), err error) {
	if err := b.refresh(ctx); err != nil {
		return nil, nil, err
	}
	for {
		id, works, ok := b.take()
		if !ok {
			return nil, func(bool) {}, nil
		}
		var err error
		if !works {
			err = b.team.Check(ctx, id)
		}
		if err == nil {
			if !works {
				b.found(id)
			}
			return &id, func(used bool) { b.settle(id, used) }, nil
		}
		b.settle(id, false)
		if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) {
			return nil, nil, err
		}
		b.mu.Lock()
		delete(b.open, id) // deactivated since the counts were read
		b.mu.Unlock()
	}
}

// take returns the agent with the fewest leads, and whether it was found to work a moment ago, and counts one more for it.
func (b *Balancer) take() (id string, works, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for candidate, n := range b.open {
		if !ok || n < b.open[id] || n == b.open[id] && candidate < id {
			id, ok = candidate, true
		}
	}
	if ok {
		b.open[id]++
		b.pending[id]++
	}
	return id, b.clock.Now().Sub(b.checked[id]) < checkEvery, ok
}

func (b *Balancer) found(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.checked[id] = b.clock.Now()
}

func (b *Balancer) settle(id string, used bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending[id]--; b.pending[id] <= 0 {
		delete(b.pending, id)
	}
	if n, known := b.open[id]; known && !used {
		b.open[id] = max(0, n-1)
	}
}

// refresh reads the counts if they are too old. One caller reads; the others use the old ones, if there are any.
func (b *Balancer) refresh(ctx context.Context) error {
	b.mu.Lock()
	current, first := b.clock.Now().Sub(b.readAt) < countEvery && len(b.open) > 0, len(b.open) == 0
	b.mu.Unlock()
	if current {
		return nil
	}
	if !b.reading.TryLock() {
		if !first {
			return nil
		}
		b.reading.Lock()
	}
	defer b.reading.Unlock()
	b.mu.Lock()
	current = b.clock.Now().Sub(b.readAt) < countEvery && len(b.open) > 0 // read while this caller waited
	b.mu.Unlock()
	if current {
		return nil
	}
	loads, err := b.loads.Loads(ctx)
	if err != nil {
		if !first && !errors.Is(err, context.Canceled) {
			return nil // the old counts are still good enough
		}
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range loads {
		loads[id] += b.pending[id]
	}
	maps.DeleteFunc(b.checked, func(id string, _ time.Time) bool { _, active := loads[id]; return !active })
	b.open, b.readAt = loads, b.clock.Now()
	return nil
}
