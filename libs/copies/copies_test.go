package copies_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

type thing struct {
	id, agentID string
	deleted     bool
}

func (t thing) Owner() (string, bool) { return t.agentID, !t.deleted }

// stored is a Store in memory. A failed one returns err.
type stored struct {
	things map[string]thing
	err    error
}

func (s *stored) Find(_ context.Context, id string) (thing, bool, error) {
	x, ok := s.things[id]
	return x, ok, s.err
}

func (s *stored) Upsert(_ context.Context, x thing) error {
	s.things[x.id] = x
	return nil
}

var (
	errMissing   = fault.New(fault.NotFound, "thing_not_found", "Thing not found")
	errForbidden = fault.New(fault.Forbidden, "thing_forbidden", "This thing belongs to another agent")
)

func open(fetch copies.Fetch[thing], things ...thing) (copies.Of[thing], *stored) {
	s := &stored{things: map[string]thing{}}
	for _, x := range things {
		s.things[x.id] = x
	}
	return copies.Of[thing]{
		Store: s, Fetch: fetch, NotFound: func() error { return errMissing }, Forbidden: func() error { return errForbidden },
	}, s
}

func TestGetChecksTheCopy(t *testing.T) {
	t.Parallel()
	c, s := open(nil, thing{id: "mine", agentID: "a"}, thing{id: "deleted", agentID: "a", deleted: true}, thing{id: "other", agentID: "b"})
	agent := identity.Caller{AgentID: "a", Role: identity.Agent}
	for id, want := range map[string]error{"mine": nil, "deleted": errMissing, "other": errForbidden, "unknown": errMissing} {
		got, err := c.Get(t.Context(), agent, id)
		require.ErrorIs(t, err, want, id)
		if want != nil {
			require.Zero(t, got, "%s: a refused object is not returned", id)
		}
	}
	_, err := c.Get(t.Context(), identity.Caller{AgentID: "c", Role: identity.Admin}, "other")
	require.NoError(t, err)
	s.err = errors.New("connection lost")
	_, err = c.Get(t.Context(), agent, "mine")
	require.ErrorIs(t, err, s.err)
}

func TestEnsureFetchesOnlyWhatHasNoCopy(t *testing.T) {
	t.Parallel()
	var fetched []string
	fails := map[string]error{
		"missing":   fault.New(fault.NotFound, "x", "of the owner"),
		"forbidden": fault.New(fault.Forbidden, "x", "of the owner"),
		"expired":   fault.New(fault.Unauthenticated, "token_expired", "of the owner"),
		"down":      fault.New(fault.Unavailable, "service_unavailable", "of the owner"),
	}
	c, s := open(func(_ context.Context, id string) (thing, error) {
		fetched = append(fetched, id)
		return thing{id: id, agentID: "a"}, fails[id]
	}, thing{id: "known", agentID: "a"}, thing{id: "deleted", deleted: true})
	for id, want := range map[string]error{"known": nil, "deleted": nil, "new": nil, "missing": errMissing, "forbidden": errForbidden, "expired": fails["expired"], "down": fails["down"]} {
		require.ErrorIs(t, c.Ensure(t.Context(), id), want, id)
	}
	require.ElementsMatch(t, []string{"new", "missing", "forbidden", "expired", "down"}, fetched, "a copy is not fetched again, not even of a deleted object")
	require.Len(t, s.things, 3, "a failed fetch stores nothing")
	s.err = errors.New("connection lost")
	require.ErrorIs(t, c.Ensure(t.Context(), "other"), s.err)
}
