package gateway

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/libs/rpc"
)

// The gateway does not start unless the routes and the OpenAPI document have the same operations with the same access.
func TestTheRoutesAreTheContract(t *testing.T) {
	t.Parallel()
	contract, err := api.Merged("1.2.3")
	require.NoError(t, err)
	table := routes(0)
	require.NoError(t, compare(table, contract))

	missing := table[1:]
	require.ErrorContains(t, compare(missing, contract), `operation auth.register is "POST /auth/register for anyone" in the contract and "" in routes.go`)
	require.ErrorContains(t, compare(append(slices.Clone(table), route{pattern: "GET /x", op: "crm.x"}), contract), "operation crm.x is in routes.go and not in the contract")
	require.ErrorContains(t, compare(append(slices.Clone(table), table[0]), contract), "two rows")
	open := slices.Clone(table)
	open[3].access = rpc.Anyone
	require.ErrorContains(t, compare(open, contract), `for agent" in the contract and "POST /auth/logout for anyone" in routes.go`)
}

// Each operation belongs to the service in its name, and has a class and a body limit.
func TestEveryRouteIsComplete(t *testing.T) {
	t.Parallel()
	classes := []class{login, upload, read, write, analytics}
	for _, r := range routes(1) {
		require.Regexp(t, "^"+r.service+`\.`, r.op)
		require.Contains(t, classes, r.class, r.op)
		require.Positive(t, r.body, r.op)
		require.Equal(t, r.class == login, r.op == "auth.register" || r.op == "auth.login", "%s: a refresh must not share the bucket of anonymous logins", r.op)
	}
}
