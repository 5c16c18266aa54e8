package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// cloud is a storage that is reached by its own protocol.
type cloud struct {
	url        string          // STORAGE_URL
	settings   []string        // what its client needs in the environment
	objects    func() []string // the recordings
	unfinished func() []string // uploads that were neither completed nor aborted
}

// serveStorage runs a server of a storage until the test ends. Its arguments are those of its program, which listens at the address.
func serveStorage(t testing.TB, name, address string, argv ...string) {
	t.Helper()
	p := launch(t, name, argv, nil)
	t.Cleanup(p.Kill)
	poll(t, startTimeout, name+" listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// startS3 runs versitygw, which serves a directory by the protocol of S3.
func startS3(t testing.TB) cloud {
	t.Helper()
	binary := built.build(t, "versitygw", filepath.Join("test", "s3"), "github.com/versity/versitygw/cmd/versitygw")
	root, address := t.TempDir(), freeAddress(t)
	bucket, metadata := filepath.Join(root, "buckets", "recordings"), filepath.Join(root, "metadata")
	require.NoError(t, os.MkdirAll(bucket, 0o700))
	require.NoError(t, os.MkdirAll(metadata, 0o700))
	serveStorage(t, "versitygw", address, binary, "--port", address, "--access", "key", "--secret", "a-secret", "--quiet", "posix", "--sidecar", metadata, filepath.Dir(bucket))
	paths := func(pattern ...string) func() []string {
		return func() []string {
			found, err := filepath.Glob(filepath.Join(append([]string{bucket}, pattern...)...))
			require.NoError(t, err)
			return found
		}
	}
	return cloud{
		url:      "s3://recordings?region=us-east-1&use_path_style=true&endpoint=http://" + address,
		settings: []string{"AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=a-secret"},
		objects:  paths("2*", "*", "*"), unfinished: paths(".sgwtmp", "multipart", "*", "*"),
	}
}

// startGCS runs fake-gcs-server, which serves its memory by the protocol of Google Cloud Storage.
func startGCS(t testing.TB) cloud {
	t.Helper()
	binary := built.build(t, "fake-gcs-server", filepath.Join("test", "gcs"), "github.com/fsouza/fake-gcs-server")
	address := freeAddress(t)
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	serveStorage(t, "fake-gcs-server", address, binary, "-backend", "memory", "-scheme", "http", "-host", host, "-port", port, "-public-host", address, "-log-level", "error")
	buckets := "http://" + address + "/storage/v1/b"
	res, err := http.Post(buckets, "application/json", strings.NewReader(`{"name":"recordings"}`))
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	return cloud{
		url: "gs://recordings", settings: []string{"STORAGE_EMULATOR_HOST=" + address},
		objects: func() (names []string) {
			res, err := http.Get(buckets + "/recordings/o")
			require.NoError(t, err)
			defer func() { _ = res.Body.Close() }()
			var list struct{ Items []struct{ Name string } }
			require.NoError(t, json.NewDecoder(res.Body).Decode(&list))
			for _, o := range list.Items {
				names = append(names, o.Name)
			}
			return names
		},
		unfinished: func() []string { return nil }, // Google forgets them after a week, and shows them to nobody
	}
}

func TestRecordingsInS3(t *testing.T) {
	t.Parallel()
	recordIn(t, startS3(t))
}

func TestRecordingsInGCS(t *testing.T) {
	t.Parallel()
	recordIn(t, startGCS(t))
}

// recordIn stores, reads and removes recordings.
func recordIn(t *testing.T, g cloud) {
	t.Helper()
	f := startFakes(t)
	s := newPlatform(t, f, false, append(append(f.settings(), g.settings...), "STORAGE_URL="+g.url)...)
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
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("recordings: %v, unfinished uploads: %v", g.objects(), g.unfinished())
		}
	})
	poll(t, jobTimeout, "nothing remains of the refused and the lost upload", func() bool { return len(g.objects()) == 2 && len(g.unfinished()) == 0 })

	for _, id := range []string{small.ID, many.ID} {
		a.do(http.MethodDelete, "/calls/"+id, nil).must(http.StatusNoContent)
	}
	poll(t, jobTimeout, "the recordings of deleted calls are gone", func() bool { return len(g.objects()) == 0 })
	require.NotContains(t, s.log(), "a-secret")
}
