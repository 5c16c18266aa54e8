package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const output = `pgbench (15.14 (Debian 15.14-0+deb12u1))
transaction type: /tmp/pgbench.sql
scaling factor: 1
query mode: prepared
number of clients: 10
number of threads: 2
maximum number of tries: 1
duration: 4 s
number of transactions actually processed: 100000
number of failed transactions: 0 (0.000%)
latency average = 0.395 ms
initial connection time = 15.250 ms
tps = 25000.000000 (without initial connection time)
`

func TestParse(t *testing.T) {
	t.Parallel()
	statements, took, err := parse(output)
	require.NoError(t, err)
	require.Equal(t, 100_000, statements)
	require.Equal(t, 4*time.Second, took)

	_, _, err = parse("number of transactions actually processed: 0\n")
	require.ErrorContains(t, err, "counted nothing")
	_, _, err = parse("number of transactions actually processed: 9\nnumber of failed transactions: 2 (18.182%)\ntps = 9.0 (without initial connection time)\n")
	require.ErrorContains(t, err, "2 statements failed")
}

func TestWithVariables(t *testing.T) {
	t.Parallel()
	expressions := map[string]string{"id": ":client::uuid", "agent_id": ":agent", "limit": ":rows", "offset": ":skip"}
	for statement, want := range map[string]string{
		"select id from clients where id = $1 ":                                            "select id from clients where id = :client::uuid ",
		"select id from clients where (agent_id=$1) order by id desc LIMIT $2\n offset $3": "select id from clients where (agent_id=:agent) order by id desc LIMIT :rows\n offset :skip",
		"select id from clients limit 21":                                                  "select id from clients limit 21",
	} {
		got, err := WithVariables(statement, expressions)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := WithVariables("select id from clients where name ilike $1", expressions)
	require.ErrorContains(t, err, "which has an unknown parameter: select id from clients where name ilike $1")
}

func TestScript(t *testing.T) {
	t.Parallel()
	s := Script{Draw: []string{`\set i random(1, 9)`}, Statement: "select :i"}
	require.Equal(t, "\\set i random(1, 9)\nselect :i;\n", s.run())
	require.Equal(t, `\set i random(1, 9)
select count(*) as found from (select :i) as answer \gset
\if :found != 1
select 'not the expected number of rows'::int;
\endif
`, s.check(1))
}

// With a real server: the rows of the statement are checked, and the CPU time of backends that have exited is counted.
func TestPgbench(t *testing.T) {
	t.Parallel()
	server, err := Start(t.Context(), t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
	p, err := server.Pgbench(t.TempDir(), "public", 2, Script{
		Draw: []string{`\set i random(1, 9)`}, Statement: "select x from generate_series(1, :rows) as x where x > :i", Constants: map[string]int{"rows": 10},
	})
	require.NoError(t, err)
	require.ErrorContains(t, p.Check(t.Context(), 1), "not the expected number of rows")

	before, err := server.CPU()
	require.NoError(t, err)
	for total := 0; total < 10_000; { // one run on an idle machine
		statements, took, err := p.Run(t.Context(), time.Second)
		require.NoError(t, err)
		require.Positive(t, statements)
		require.Greater(t, took, 100*time.Millisecond)
		require.Less(t, took, time.Minute)
		total += statements
	}
	after, err := server.CPU()
	require.NoError(t, err)
	require.Greater(t, after-before, 100*time.Millisecond)
	require.NoError(t, server.Alive())
}
