package lockdir_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/lockdir"
)

func TestOneProcessAtATimeHasADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := lockdir.Lock(dir)
	require.NoError(t, err)
	_, err = lockdir.Lock(dir)
	require.ErrorContains(t, err, dir+" is used by another running process")
	unlock()
	unlock, err = lockdir.Lock(dir)
	require.NoError(t, err)
	unlock()
	_, err = lockdir.Lock(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
