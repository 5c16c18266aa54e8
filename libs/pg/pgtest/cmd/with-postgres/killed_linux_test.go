package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Only Linux can signal a child process when its parent dies.
func TestServerDiesWithAKilledCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, out := command(t, dir, "--", "sh", "-c", `echo "$TEST_DATABASE_URL"; read never`)
	address := serverAddress(t, out)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	requireStopped(t, dir, address)
}
