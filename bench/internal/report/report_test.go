package report_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/bench/internal/report"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	more, less := report.Result{Floor: 0.35, Goal: 0.6}, report.Result{Floor: 3, Goal: 1.5}
	for ratio, want := range map[float64]string{0.34: report.BelowFloor, 0.35: report.Floor, 0.6: report.Goal} {
		more.Ratio = ratio
		require.Equal(t, want, more.Verdict(), ratio)
	}
	for ratio, want := range map[float64]string{3.1: report.BelowFloor, 3: report.Floor, 1.5: report.Goal} {
		less.Ratio = ratio
		require.Equal(t, want, less.Verdict(), ratio)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	require.Equal(t, 2, report.Median([]int{9, 1, 2}))
	require.Equal(t, 1, report.Median([]int{9, 1}))
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{0: "0", 0.1234: "0.123", 12.34: "12.3", 1234.5: "1,234", 1234567: "1,234,567", -1234: "-1,234"} {
		require.Equal(t, want, report.Number(x))
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	round := report.Round{Ours: report.Measure{Value: 4000, CPU: 50, Core: 1}, Peer: report.Measure{Value: 8000, CPU: 25, Core: 0.99, Others: 0.2}, Ratio: 0.5}
	var out strings.Builder
	report.Report{Results: []report.Result{{
		Name: "gateway", Peer: "nginx", Unit: "requests/s", Floor: 0.35, Goal: 0.6, Ratio: 0.5, Rounds: []report.Round{round}, Notes: []string{"a note"},
	}}}.Table(&out)
	require.Equal(t, `| benchmark | Convoflow        | peer        | ratio | rounds       | CPU µs      | core busy    | floor | goal | verdict          |
|-----------|------------------|-------------|-------|--------------|-------------|--------------|-------|------|------------------|
| gateway   | 4,000 requests/s | nginx 8,000 | 0.50  | 0.50 to 0.50 | 50.0 ÷ 25.0 | 100 % ÷ 99 % | 0.35  | 0.60 | floor, disturbed |

- gateway: a note
- gateway: in 1 of 1 rounds other processes used the machine: measure again on an idle machine
`, out.String())
}

func TestTableOfAResultOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	round := func(gateway float64) report.Round {
		return report.Round{
			Ours: report.Measure{Parts: []report.Part{{Name: "gateway", CPU: gateway}, {Name: "load", CPU: 5}}},
			Peer: report.Measure{Parts: []report.Part{{Name: "PostgreSQL", CPU: 7.25}, {Name: "load", CPU: 3}}},
		}
	}
	var out strings.Builder
	report.Report{Results: []report.Result{{Name: "read one", Peer: "pgbench", Rounds: []report.Round{round(30), round(50), round(40)}}}}.Table(&out)
	require.Contains(t, out.String(), "\n- read one: CPU µs per request: gateway 40.0, load 5.00; pgbench: PostgreSQL 7.25, load 3.00\n")
}
