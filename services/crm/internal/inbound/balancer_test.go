package inbound_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/crm/internal/inbound"
)

// team is a database with agents and their open leads.
type team struct {
	mu    sync.Mutex
	open  map[string]int
	gone  map[string]bool
	reads int
	err   error
}

func (t *team) Loads(context.Context) (map[string]int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads++
	loads := map[string]int{}
	for id, n := range t.open {
		if !t.gone[id] {
			loads[id] = n
		}
	}
	return loads, t.err
}

func (t *team) Check(_ context.Context, id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone[id] {
		return fault.New(fault.Conflict, "agent_inactive", "This agent is deactivated")
	}
	return nil
}

func next(t *testing.T, b *inbound.Balancer, used bool) string {
	t.Helper()
	id, done, err := b.Next(t.Context())
	require.NoError(t, err)
	done(used)
	if id == nil {
		return ""
	}
	return *id
}

func TestTheAgentWithTheFewestLeadsIsNext(t *testing.T) {
	t.Parallel()
	now := clock.At(time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC))
	db := &team{open: map[string]int{"a": 2, "b": 0, "c": 1}, gone: map[string]bool{}}
	b := inbound.NewBalancer(db, db, now)
	var order []string
	for range 6 {
		order = append(order, next(t, b, true))
	}
	require.Equal(t, []string{"b", "b", "c", "a", "b", "c"}, order)
	require.Equal(t, "a", next(t, b, false), "an agent that did not get its lead")
	require.Equal(t, "a", next(t, b, true), "is the next one again")
	require.Equal(t, 1, db.reads)
	db.open = map[string]int{"a": 0, "b": 9, "c": 9} // a has closed its leads
	now.Advance(time.Minute)
	require.Equal(t, "a", next(t, b, true))
	db.gone["a"] = true
	now.Advance(2 * time.Second)
	require.Equal(t, "b", next(t, b, true), "the counts are still from before")
	db.err = fault.New(fault.Unavailable, "database_unavailable", "down")
	now.Advance(time.Minute)
	require.Equal(t, "c", next(t, b, true), "old counts are better than none")
}

func TestWithoutAgentsALeadIsNobodys(t *testing.T) {
	t.Parallel()
	db := &team{gone: map[string]bool{}}
	b := inbound.NewBalancer(db, db, clock.System{})
	require.Empty(t, next(t, b, true))
	db.open = map[string]int{"a": 0}
	require.Equal(t, "a", next(t, b, true), "as soon as there is one")
}

func TestLeadsAtOnceAreSpreadEvenly(t *testing.T) {
	t.Parallel()
	db := &team{open: map[string]int{"a": 0, "b": 0, "c": 0, "d": 0}, gone: map[string]bool{}}
	b := inbound.NewBalancer(db, db, clock.System{})
	per := make(chan string, 100)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { per <- next(t, b, true) })
	}
	all.Wait()
	close(per)
	counts := map[string]int{}
	for id := range per {
		counts[id]++
	}
	require.Equal(t, map[string]int{"a": 25, "b": 25, "c": 25, "d": 25}, counts)
}
