package identity_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

func TestRolesAndAccess(t *testing.T) {
	t.Parallel()
	agent, admin := identity.Caller{AgentID: "a", Role: identity.Agent}, identity.Caller{AgentID: "b", Role: identity.Admin}
	require.True(t, agent.MaySee("a"))
	require.False(t, agent.MaySee("b"))
	require.True(t, admin.MaySee("a"))
	require.False(t, identity.Caller{AgentID: "a", Role: "ADMIN"}.IsAdmin())
}

func TestTheCallerIsInTheContext(t *testing.T) {
	t.Parallel()
	_, err := identity.From(t.Context())
	require.True(t, fault.Is(err, fault.Unauthenticated))
	c := identity.Caller{AgentID: "a"}
	got, err := identity.From(identity.With(t.Context(), c))
	require.NoError(t, err)
	require.Equal(t, c, got)
}

func TestGuardChecksTheCallerFirst(t *testing.T) {
	t.Parallel()
	type thing struct{ owner string }
	refused := errors.New("refused")
	check := func(x *thing, c identity.Caller) error {
		if !c.MaySee(x.owner) {
			return refused
		}
		return nil
	}
	name := func(x *thing) (string, error) { return "of " + x.owner, nil }
	ctx := identity.With(t.Context(), identity.Caller{AgentID: "a", Role: identity.Agent})
	got, err := identity.Guard(ctx, check, name)(&thing{"a"})
	require.NoError(t, err)
	require.Equal(t, "of a", got)
	got, err = identity.Guard(ctx, check, name)(&thing{"b"})
	require.ErrorIs(t, err, refused)
	require.Empty(t, got)
	_, err = identity.Guard(t.Context(), check, name)(&thing{"a"})
	require.Error(t, err, "nobody is logged in")
}
