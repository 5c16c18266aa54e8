package e2e

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// s3Gateway is versitygw, which serves a directory by the protocol of S3.
type s3Gateway struct {
	t    testing.TB
	dir  string // of the bucket
	url  string // STORAGE_URL
	keys []string
}

func startS3(t testing.TB) s3Gateway {
	t.Helper()
	binary := built.build(t, "versitygw", filepath.Join("test", "s3"), "github.com/versity/versitygw/cmd/versitygw")
	root, address := t.TempDir(), freeAddress(t)
	bucket, metadata := filepath.Join(root, "buckets", "recordings"), filepath.Join(root, "metadata")
	require.NoError(t, os.MkdirAll(bucket, 0o700))
	require.NoError(t, os.MkdirAll(metadata, 0o700))
	p := launch(t, "versitygw", []string{binary, "--port", address, "--access", "key", "--secret", "a-secret", "--quiet", "posix", "--sidecar", metadata, filepath.Dir(bucket)}, nil)
	t.Cleanup(p.Kill)
	poll(t, startTimeout, "versitygw listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return s3Gateway{
		t: t, dir: bucket, url: "s3://recordings?region=us-east-1&use_path_style=true&endpoint=http://" + address,
		keys: []string{"AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=a-secret"},
	}
}

// objects returns the paths of the recordings, and unfinished those of uploads that were neither completed nor aborted.
func (g s3Gateway) objects() []string    { return g.paths("2*", "*", "*") }
func (g s3Gateway) unfinished() []string { return g.paths(".sgwtmp", "multipart", "*", "*") }

func (g s3Gateway) paths(pattern ...string) []string {
	g.t.Helper()
	found, err := filepath.Glob(filepath.Join(append([]string{g.dir}, pattern...)...))
	require.NoError(g.t, err)
	return found
}

func TestRecordingsInS3(t *testing.T) {
	t.Parallel()
	f, g := startFakes(t), startS3(t)
	s := newPlatform(t, f, false, append(append(f.settings(), g.keys...), "STORAGE_URL="+g.url)...)
	s.start()
	a := s.newAgent()

	audio := salesCall(t)
	small := a.completed(a.upload(nil).ID)
	require.Len(t, g.objects(), 1)
	whole := a.get("/calls/" + small.ID + "/audio").must(http.StatusOK)
	require.Equal(t, audio, whole.body)
	require.Equal(t, audio[100:200], a.get("/calls/"+small.ID+"/audio", "Range", "bytes=100-199").must(http.StatusPartialContent).body)
	a.get("/calls/"+small.ID+"/audio", "If-None-Match", whole.header.Get("Etag")).must(http.StatusNotModified)

	const large = 30 << 20 // several parts
	var many call
	a.post("/calls/upload", noise(large, nil)).must(http.StatusAccepted).into(&many)
	require.Len(t, a.get("/calls/"+many.ID+"/audio").must(http.StatusOK).body, large)
	require.Empty(t, g.unfinished())

	a.post("/calls/upload", noise(mostAudio+1, nil)).refused(http.StatusRequestEntityTooLarge, "audio_too_large")
	lost := errors.New("the phone has lost its connection")
	cut := io.MultiReader(io.LimitReader(noise(large, nil), large/2), iotest.ErrReader(lost))
	_, err := a.try(http.MethodPost, "/calls/upload", &form{Reader: cut, contentType: noise(large, nil).contentType, length: noise(large, nil).length})
	require.ErrorIs(t, err, lost)
	poll(t, jobTimeout, "nothing remains of the refused and the lost upload", func() bool { return len(g.objects()) == 2 && len(g.unfinished()) == 0 })

	for _, id := range []string{small.ID, many.ID} {
		a.do(http.MethodDelete, "/calls/"+id, nil).must(http.StatusNoContent)
	}
	poll(t, jobTimeout, "the recordings of deleted calls are gone", func() bool { return len(g.objects()) == 0 })
	require.NotContains(t, s.log(), "a-secret")
}
