package database_test

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgserver"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/platform/internal/database"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestEachServiceCanAccessOnlyItsOwnSchema(t *testing.T) {
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

func TestFindChangesNothing(t *testing.T) {
	t.Parallel()
	admin := pgtest.Database(t)
	dropRoles(t, admin)
	_, err := database.Find(t.Context(), admin, "a secret", "auth")
	require.ErrorIs(t, err, database.ErrNotProvisioned)
	urls, err := database.Provision(t.Context(), admin, "a secret", []string{"auth"})
	require.NoError(t, err)
	found, err := database.Find(t.Context(), admin, "a secret", "auth")
	require.NoError(t, err)
	require.Equal(t, urls["auth"], found)
	_, err = database.Find(t.Context(), admin, "another secret", "auth")
	require.ErrorIs(t, err, database.ErrOtherSecret)
	connect(t, urls["auth"])
}

func TestRunningFindsAServerThatAnswers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "postgres")
	running := func() bool {
		url, running, err := database.Running(t.Context(), dir, "postgres")
		require.NoError(t, err)
		if running {
			connect(t, url)
		}
		return running
	}
	require.False(t, running(), "there is no server")

	server, err := pgserver.Start(t.Context(), pgserver.Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Fast: true})
	require.NoError(t, err)
	require.True(t, running())
	pidFile, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	require.NoError(t, err)
	require.NoError(t, server.Stop(t.Context()))
	require.False(t, running(), "the server has stopped")

	for name, content := range map[string]string{
		"the server was killed":       string(pidFile),
		"another program has its pid": strings.Replace(string(pidFile), strings.SplitN(string(pidFile), "\n", 2)[0], strconv.Itoa(os.Getpid()), 1),
		"the file is being written":   "1\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(content), 0o600))
		require.False(t, running(), name)
	}
}

func TestProvisionFailsForARoleThatMayNotCreateRoles(t *testing.T) {
	t.Parallel()
	_, err := database.Provision(t.Context(), pgtest.Schema(t), "a secret", []string{"auth"})
	require.ErrorIs(t, err, database.ErrNotAdministrator)
}

func TestCreateCanBeRepeated(t *testing.T) {
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

// dropRoles drops the roles of Provision when the test ends: roles belong to the server, not to the test's database.
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

// exec also works in cleanups, after t.Context has ended.
func exec(t *testing.T, admin, sql string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, admin)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	require.NoError(t, err)
}
