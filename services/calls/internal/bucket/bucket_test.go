package bucket_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/bucket"
)

const limit = 1 << 20

func open(t *testing.T) (*bucket.Bucket, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "made", "here")
	b, err := bucket.Open(t.Context(), "file://"+dir, limit, func(head []byte) (string, bool) { return "audio/test", head[0] == 'a' })
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b, dir
}

func files(t *testing.T, dir string) (found []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, path[len(dir)+1:])
		}
		return err
	}))
	return found
}

func TestWhatIsStoredCanBeReadAndRemoved(t *testing.T) {
	t.Parallel()
	b, dir := open(t)
	for _, size := range []int{1, 3 << 10, 3<<10 + 1, 256 << 10, 256<<10 + 1, limit} {
		content := bytes.Repeat([]byte("a"), size)
		// One byte at a time is what a slow phone sends.
		var r io.Reader = bytes.NewReader(content)
		if size < 10_000 {
			r = iotest.OneByteReader(r)
		}
		got, err := b.Store(t.Context(), "2026/11/x", r)
		require.NoError(t, err)
		sum := sha256.Sum256(content)
		require.Equal(t, hex.EncodeToString(sum[:]), got.SHA256)
		require.Equal(t, int64(size), got.SizeBytes)
		require.Equal(t, "audio/test", got.ContentType)
		require.Equal(t, []string{"2026/11/x"}, files(t, dir))

		f, err := b.Open(t.Context(), "2026/11/x")
		require.NoError(t, err)
		_, err = f.Seek(-1, io.SeekEnd)
		require.NoError(t, err)
		last, err := io.ReadAll(f)
		require.NoError(t, err)
		require.Equal(t, "a", string(last))
		require.NoError(t, f.Close())
		require.NoError(t, b.Remove(t.Context(), "2026/11/x"))
		require.NoError(t, b.Remove(t.Context(), "2026/11/x"), "again")
		_, err = b.Open(t.Context(), "2026/11/x")
		require.True(t, fault.Is(err, fault.NotFound))
	}
}

func TestWhatIsRefusedLeavesNothing(t *testing.T) {
	t.Parallel()
	b, dir := open(t)
	left := errors.New("the client has left")
	for name, c := range map[string]struct {
		r    io.Reader
		want func(error) bool
	}{
		"empty":                {bytes.NewReader(nil), func(err error) bool { return fault.Of(err).Fields[0].Type == "audio_empty" }},
		"no audio":             {bytes.NewReader([]byte("text")), func(err error) bool { return fault.Of(err).Fields[0].Type == "audio_format" }},
		"a byte too many":      {bytes.NewReader(bytes.Repeat([]byte("a"), limit+1)), func(err error) bool { return fault.Is(err, fault.TooLarge) }},
		"cut in the head":      {io.MultiReader(bytes.NewReader([]byte("a")), iotest.ErrReader(left)), func(err error) bool { return errors.Is(err, left) }},
		"cut in the middle":    {io.MultiReader(bytes.NewReader(bytes.Repeat([]byte("a"), limit/2)), iotest.ErrReader(left)), func(err error) bool { return errors.Is(err, left) }},
		"cut after the head":   {io.MultiReader(bytes.NewReader(bytes.Repeat([]byte("a"), 3<<10)), iotest.ErrReader(left)), func(err error) bool { return errors.Is(err, left) }},
		"cut before the first": {iotest.ErrReader(left), func(err error) bool { return errors.Is(err, left) }},
	} {
		_, err := b.Store(t.Context(), "2026/11/x", c.r)
		require.Error(t, err, name)
		require.True(t, c.want(err), "%s: %v", name, err)
		require.Empty(t, files(t, dir), name)
	}
}

func TestOnlyOldFilesAreListed(t *testing.T) {
	t.Parallel()
	b, dir := open(t)
	for _, key := range []string{"2026/10/a", "2026/11/b", "2026/11/c"} {
		_, err := b.Store(t.Context(), key, bytes.NewReader([]byte("a")))
		require.NoError(t, err)
	}
	now := time.Now()
	require.NoError(t, os.Chtimes(filepath.Join(dir, "2026/11/b"), now, now.Add(-2*time.Hour)))
	var listed []string
	require.NoError(t, b.List(t.Context(), "2026/11/", now.Add(-time.Hour), func(keys []string) error {
		listed = append(listed, keys...)
		return nil
	}))
	require.Equal(t, []string{"2026/11/b"}, listed)
}

func TestAStorageThatIsDownIsUnavailable(t *testing.T) {
	t.Parallel()
	b, dir := open(t)
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.WriteFile(dir, nil, 0o600)) // a file in place of the directory
	_, err := b.Store(t.Context(), "2026/11/x", bytes.NewReader([]byte("a")))
	require.Equal(t, "storage_unavailable", fault.Of(err).Code)
	require.NotContains(t, fault.Of(err).Detail, dir)
}

func TestUnknownStoragesAreNamed(t *testing.T) {
	t.Parallel()
	_, err := bucket.Open(context.WithoutCancel(t.Context()), "ftp://x/y", limit, nil)
	require.ErrorContains(t, err, "STORAGE_URL")
}
