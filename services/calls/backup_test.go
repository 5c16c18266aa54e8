package calls_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/services/calls"
)

func TestACopyOfARecordingThatIsCutOffIsMissing(t *testing.T) {
	t.Parallel()
	storage, copies := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{"whole": "recording", "cut": "reco"} {
		require.NoError(t, os.WriteFile(filepath.Join(copies, name), []byte(content), 0o600))
	}
	var missing []string
	cfg := calls.Defaults()
	cfg.StorageURL = "file://" + filepath.ToSlash(storage)
	manifest := `{"key":"whole","size":9} {"key":"cut","size":9} {"key":"gone","size":9}`
	n, err := calls.RestoreRecordings(t.Context(), cfg, strings.NewReader(manifest), copies, func(key string) { missing = append(missing, key) })
	require.NoError(t, err)
	require.Equal(t, calls.Recordings{Files: 3, Bytes: 27, Copied: 1, Missing: 2}, n)
	require.Equal(t, []string{"cut", "gone"}, missing)
	require.NoFileExists(t, filepath.Join(storage, "cut"))
}
