package process_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/bench/internal/process"
)

const (
	pollInterval = 10 * time.Millisecond
	timeout      = time.Minute
)

func TestTheCPUTimeOfAProgramIncludesItsChildren(t *testing.T) {
	t.Parallel()
	// The child uses CPU time and goes on, and the parent waits for it.
	p, err := process.Start(t.Context(), process.Program{Name: "sh", Core: process.Any, Argv: []string{
		"sh", "-c", "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; sleep 60' & wait",
	}})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.Lines() == 1 }, timeout, pollInterval)
	cpu, err := p.CPU()
	require.NoError(t, err)
	require.Positive(t, cpu)
	require.NoError(t, p.Alive())
	require.NoError(t, p.Stop())
	require.ErrorContains(t, p.Alive(), "sh exited (signal: terminated):\ndone")
}

func TestPeakMemory(t *testing.T) {
	t.Parallel()
	// The shell's variable is 8 MB, and gone when the peak is read.
	p, err := process.Start(t.Context(), process.Program{Name: "sh", Core: process.Any, Argv: []string{
		"sh", "-c", "x=$(head -c 8000000 /dev/zero | tr '\\0' x); x=; echo done; sleep 60 & wait",
	}})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.Lines() == 1 }, timeout, pollInterval)
	peak, err := p.PeakMemory()
	require.NoError(t, err)
	require.Greater(t, peak, int64(8_000_000))
	require.NoError(t, p.Stop())
}

func TestRun(t *testing.T) {
	t.Parallel()
	out, err := process.Run(t.Context(), process.Program{Name: "a core", Core: 0, Argv: []string{"sh", "-c", "taskset -p $$; env"}, Env: []string{"A=b"}})
	require.NoError(t, err)
	require.Contains(t, out, "affinity mask: 1\n")
	require.Contains(t, out, "A=b\n")

	_, err = process.Run(t.Context(), process.Program{Name: "a failure", Core: process.Any, Argv: []string{"sh", "-c", "echo why; exit 3"}})
	require.ErrorContains(t, err, "run a failure: exit status 3\nwhy")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = process.Run(ctx, process.Program{Name: "nothing", Core: process.Any, Argv: []string{"sleep", "60"}})
	require.ErrorIs(t, err, context.Canceled)
}

func TestBusy(t *testing.T) {
	t.Parallel()
	all, err := process.Any.Busy()
	require.NoError(t, err)
	one, err := process.Core(0).Busy()
	require.NoError(t, err)
	require.Positive(t, one)
	require.GreaterOrEqual(t, all, one/2)
	_, err = process.Core(100_000).Busy()
	require.ErrorContains(t, err, "no cpu100000")
}
