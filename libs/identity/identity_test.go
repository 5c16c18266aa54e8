package identity_test

import (
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
