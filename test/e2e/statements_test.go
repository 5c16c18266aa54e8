package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// TestTheStatementsOfTheRunbookWork runs what an operator copies from the documents at night, as the administrator of the database: each
// statement names its schema.
func TestTheStatementsOfTheRunbookWork(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newServices(t, f, f.settings()...)
	s.start()
	conn, err := pgx.Connect(t.Context(), s.setting("DATABASE_URL"))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	_, err = conn.Exec(t.Context(), "set search_path = ''")
	require.NoError(t, err)

	statement, tried := regexp.MustCompile("`(select [^`]* from [^`]*)`"), 0
	for _, name := range []string{"runbook.md", "operations.md"} {
		raw, err := os.ReadFile("../../docs/" + name)
		require.NoError(t, err)
		for _, found := range statement.FindAllStringSubmatch(string(raw), -1) {
			tried++
			sql := strings.ReplaceAll(found[1], "<service>", "calls")
			_, err = conn.Exec(t.Context(), sql)
			require.NoError(t, err, "%s: %s", name, sql)
		}
	}
	require.GreaterOrEqual(t, tried, 8)
}
