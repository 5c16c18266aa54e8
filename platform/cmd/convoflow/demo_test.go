package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
)

// convoflow runs the command as main does.
func convoflow(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = execute(ctx, args, terminal{nil, &out, &errs})
	return code, out.String(), errs.String()
}

// temporary is the directory for temporary files of one test.
func temporary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	return dir
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// unused returns a loopback address on which nothing listens.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func TestTheDemoRefusesOtherServers(t *testing.T) { // not parallel: it sets environment variables
	temp := temporary(t)
	for name, answer := range map[string]http.HandlerFunc{
		"no such page": http.NotFound,
		"a page":       func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>Hello</html>") },
		"another service's health": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"status":"ok","service":"calls"}`)
		},
		"nothing at all": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.com/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(answer)
			t.Cleanup(server.Close)
			code, stdout, stderr := convoflow(t.Context(), "demo", "--url", server.URL)
			require.Equal(t, exitFailed, code, stderr)
			require.Empty(t, stdout, "nothing was started or done")
			require.Contains(t, stderr, "no Convoflow platform answers at "+server.URL)
			require.Contains(t, stderr, "make demo URL=http://127.0.0.1:PORT", "what to do")
		})
	}
	requireEmpty(t, temp)
}

// 0.0.0.0 connects to this machine but is not a loopback address, so it simulates a remote one that refuses connections.
func TestTheDemoStartsNothingForARemotePlatformThatDoesNotAnswer(t *testing.T) {
	temp := temporary(t)
	_, port, err := net.SplitHostPort(unused(t))
	require.NoError(t, err)
	address := "http://0.0.0.0:" + port
	code, stdout, stderr := convoflow(t.Context(), "demo", "--url", address)
	require.Equal(t, exitFailed, code, stderr)
	require.Empty(t, stdout)
	require.Contains(t, stderr, address+": nothing answers")
	require.Contains(t, stderr, "make demo starts a platform of its own")
	requireEmpty(t, temp)
}

func TestTheDemoUsesAPlatformThatAnswersAndWaitsUntilItIsReady(t *testing.T) {
	temp := temporary(t)
	t.Setenv("DATABASE_URL", "postgres://db.example.com/convoflow") // the running platform's setting
	var requests atomic.Int32
	platform := http.NewServeMux()
	platform.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"ok","service":"convoflow","version":"1.2.3"}`)
	})
	platform.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	platform.HandleFunc("POST /auth/register", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"code":"registration_closed"}`)
	})
	server := httptest.NewServer(platform)
	t.Cleanup(server.Close)
	code, stdout, stderr := convoflow(t.Context(), "demo", "--url", server.URL+"/")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "waiting until every service is ready\n  convoflow 1.2.3 at "+server.URL+"\n")
	require.Contains(t, stderr, "registration_closed")
	requireEmpty(t, temp)
}

func TestTheDemoDoesNotWriteToExternalStores(t *testing.T) {
	for setting, value := range map[string]string{
		"DATABASE_URL": "postgres://db.example.com/convoflow", "DATABASE_URL_FILE": "/run/secrets/database",
		"KAFKA_BROKERS": "kafka.example.com:9092", "STORAGE_URL": "s3://recordings",
	} {
		t.Run(setting, func(t *testing.T) {
			temp := temporary(t)
			t.Setenv(setting, value)
			code, stdout, stderr := convoflow(t.Context(), "demo", "--url", "http://"+unused(t))
			require.Equal(t, exitUsage, code, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, "make up")
			require.Contains(t, stderr, "unset "+strings.TrimSuffix(setting, "_FILE"))
			require.NotContains(t, stderr, value, "a setting may be a secret")
			requireEmpty(t, temp)
		})
	}
}

func TestTheDemoWithInvalidSettingsLeavesNoFiles(t *testing.T) {
	temp := temporary(t)
	t.Setenv("SECRET_KEY", "short")
	code, _, stderr := convoflow(t.Context(), "demo", "--url", "http://"+unused(t))
	require.Equal(t, exitUsage, code, stderr)
	require.Contains(t, stderr, "SECRET_KEY")
	requireEmpty(t, temp)
}

func TestUpRefusesAnAddressThatIsNone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	code, _, stderr := convoflow(t.Context(), "up", "--listen", "8000", "--data-dir", dir)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--listen must be HOST:PORT")
	require.NoDirExists(t, dir)
}

func TestAnInterruptedDemoStartsNothing(t *testing.T) {
	temp := temporary(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, stdout, stderr := convoflow(ctx, "demo", "--url", "http://"+unused(t))
	require.Equal(t, exitFailed, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "interrupted")
	requireEmpty(t, temp)
}

func TestHelpOfTheDemo(t *testing.T) {
	t.Parallel()
	code, stdout, _ := convoflow(t.Context(), "demo", "--help")
	require.Zero(t, code)
	for _, part := range []string{"temporary", "DATABASE_URL", "KAFKA_BROKERS", "STORAGE_URL", "PABBLY_WEBHOOK_URL", "-url"} {
		require.Contains(t, stdout, part)
	}
}

func TestLoopbackAddresses(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.1.2.3": true, "::1": true,
		"0.0.0.0": false, "10.0.0.1": false, "example.com": false, "localhost.example.com": false, "": false,
	} {
		require.Equal(t, want, isLoopback(host), host)
	}
}

func TestOtherUsersMayEnterTheTemporaryDirectory(t *testing.T) {
	temporary(t)
	dir, err := temporaryDir()
	require.NoError(t, err)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o711), info.Mode().Perm())
}

func TestOnlyTheLogsOfAFailedDemoRemain(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		err  error
		stay []string
	}{
		"success":        {nil, nil},
		"Ctrl-C":         {errInterrupted, nil},
		"wrong settings": {&conf.Error{Problems: []string{"SECRET_KEY is short"}}, nil},
		"failure":        {broken, []string{"convoflow.log", "postgres/postgres.log"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "demo")
			for _, file := range []string{"convoflow.log", "secrets.json", "recordings/a.ogg", "kafka/0.log", "postgres/postgres.log", "postgres/data/base/1"} {
				path := filepath.Join(dir, file)
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
			}
			err := discard(dir, tt.err)
			require.ErrorIs(t, err, tt.err)
			if tt.stay == nil {
				require.NoDirExists(t, dir)
				return
			}
			require.ErrorContains(t, err, filepath.Join(dir, "convoflow.log"), "where the log is")
			var files []string
			require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
				if err == nil && !entry.IsDir() {
					name, _ := filepath.Rel(dir, path)
					files = append(files, filepath.ToSlash(name))
				}
				return err
			}))
			require.ElementsMatch(t, tt.stay, files)
		})
	}
}
