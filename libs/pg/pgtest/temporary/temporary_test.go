package temporary

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/lockdir"
)

func TestWhatKilledServersLeftIsRemoved(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	server := func(name string, files ...string) string {
		dir := filepath.Join(parent, name)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "data"), 0o700))
		for _, file := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), nil, 0o600))
		}
		return dir
	}
	killed := server(prefix+"1", "data/PG_VERSION")
	running := server(prefix+"2", "data/PG_VERSION")
	starting := server(prefix + "3")
	others := server("other", "data/PG_VERSION")
	unlock, err := lockdir.Lock(running)
	require.NoError(t, err)
	defer unlock()
	removeStale(parent)
	require.NoDirExists(t, killed)
	for _, dir := range []string{running, starting, others} {
		require.DirExists(t, dir)
	}
}
