package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Only Linux has a signal for children whose parent died.
func TestServerDiesWithAKilledCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, out := command(t, dir, "--", "sh", "-c", `echo "$TEST_DATABASE_URL"; read never`)
	address := serverAddress(t, out)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	requireGone(t, dir, address)
}
