package database_test

import (
	"context"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/platform/internal/database"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestEachServiceReachesOnlyItsOwnSchema(t *testing.T) {
	t.Parallel()
	admin := pgtest.Database(t)
	dropRoles(t, admin)
	urls, err := database.Provision(t.Context(), admin, "a secret", []string{"auth", "crm"})
	require.NoError(t, err)
	again, err := database.Provision(t.Context(), admin, "a secret", []string{"auth", "crm"})
	require.NoError(t, err, "a second start")
	require.Equal(t, urls, again)

	auth, crm := connect(t, urls["auth"]), connect(t, urls["crm"])
	_, err = auth.Exec(t.Context(), "create table auth.agents (id int)")
	require.NoError(t, err)
	_, err = crm.Exec(t.Context(), "select from auth.agents")
	require.ErrorContains(t, err, "permission denied")
	_, err = crm.Exec(t.Context(), "create schema other")
	require.ErrorContains(t, err, "permission denied")
}

func TestAnotherSecretChangesThePasswords(t *testing.T) {
	t.Parallel()
	admin := pgtest.Database(t)
	dropRoles(t, admin)
	before, err := database.Provision(t.Context(), admin, "a secret", []string{"auth"})
	require.NoError(t, err)
	_, err = database.Provision(t.Context(), admin, "another secret", []string{"auth"})
	require.NoError(t, err)
	_, err = pgx.Connect(t.Context(), before["auth"])
	require.ErrorContains(t, err, "password authentication failed")
}

func TestARoleThatMayNotCreateRolesIsToldApart(t *testing.T) {
	t.Parallel()
	_, err := database.Provision(t.Context(), pgtest.Schema(t), "a secret", []string{"auth"})
	require.ErrorIs(t, err, database.ErrNotAdministrator)
}

func TestCreateMakesADatabaseOnce(t *testing.T) {
	t.Parallel()
	admin := pgtest.Database(t)
	u, err := url.Parse(admin)
	require.NoError(t, err)
	name := u.Path[1:] + "_made"
	t.Cleanup(func() { exec(t, admin, "drop database "+name) })
	require.NoError(t, database.Create(t.Context(), admin, name))
	require.NoError(t, database.Create(t.Context(), admin, name))
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// dropRoles removes what Provision makes when the test ends: roles belong to the server, not to the test's database.
func dropRoles(t *testing.T, admin string) {
	t.Helper()
	u, err := url.Parse(admin)
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, service := range []string{"auth", "crm"} {
			role := u.Path[1:] + "_" + service
			exec(t, admin, "do $$ begin if exists (select from pg_roles where rolname = '"+role+"') then drop owned by "+role+" cascade; drop role "+role+"; end if; end $$")
		}
	})
}

// exec also works in cleanups, when t.Context is over.
func exec(t *testing.T, admin, sql string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, admin)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	require.NoError(t, err)
}
