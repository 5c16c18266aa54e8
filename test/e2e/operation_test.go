package e2e

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/test/fake/openai"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

func TestWrongSettingsAreListedAtOnceAndStartNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	code, _, stderr := command(t, environ(
		"SECRET_KEY=short", "MAX_AUDIO_SIZE_MB=plenty", "DATABASE_URL=mysql://nowhere", "KAFKA_BROKERS=nowhere", "ALLOWED_ORIGINS=*",
		"DEFAULT_COUNTRY=Atlantis", "PABBLY_WEBHOOK_URL=not a url", "WEBHOOK_ALLOW_PRIVATE_CIDRS=everywhere", "STORAGE_URL=shelf", "LOG_FORMAT=xml", "LOG_LEVEL=loud",
	), built.platform(t, false), "up", "--data-dir", dir, "--listen", freeAddress(t))
	require.Equal(t, exitUsage, code, stderr)
	for _, name := range []string{
		"SECRET_KEY", "MAX_AUDIO_SIZE_MB", "DATABASE_URL", "KAFKA_BROKERS", "ALLOWED_ORIGINS", "DEFAULT_COUNTRY", "PABBLY_WEBHOOK_URL",
		"PABBLY_WEBHOOK_SECRET", "WEBHOOK_ALLOW_PRIVATE_CIDRS", "STORAGE_URL", "LOG_FORMAT", "LOG_LEVEL",
	} {
		require.Contains(t, stderr, name)
	}
	for _, value := range []string{"mysql://nowhere", "short\n"} {
		require.NotContains(t, stderr, value, "a setting may be a secret")
	}
	requireNothingStarted(t, dir)
}

func TestWrongArgumentsStartNothing(t *testing.T) {
	t.Parallel()
	convoflow := built.platform(t, false)
	for _, arguments := range []string{"", "rise", "up now", "up --colour", "demo --url ftp://x", "demo --url x"} {
		code, _, stderr := command(t, environ(), append([]string{convoflow}, strings.Fields(arguments)...)...)
		require.Equal(t, exitUsage, code, arguments)
		require.NotEmpty(t, stderr, arguments)
	}
	code, stdout, _ := command(t, environ(), convoflow, "version")
	require.Zero(t, code)
	require.Regexp(t, `^convoflow \d+\.\d+\.\d+`, stdout)
}

func TestServiceAloneNeedsASecret(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"auth", "calls", "notify"} {
		for _, secret := range []string{"", "SECRET_KEY=short", "SECRET_KEY=" + strings.Repeat("ab", 32), "SECRET_KEY=please-change-me-please-change-me-1"} {
			code, _, stderr := command(t, environ(secret), built.service(t, name))
			require.Equal(t, exitUsage, code, "%s with %q", name, secret)
			require.Contains(t, stderr, "SECRET_KEY", "%s with %q", name, secret)
			require.Contains(t, stderr, "DATABASE_URL", "every problem at once")
		}
	}
	code, _, stderr := command(t, environ(), built.service(t, "gateway"))
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "AUTH_URL")
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	dir := filepath.Join(t.TempDir(), "data")
	code, _, stderr := command(t, environ(), built.platform(t, false), "up", "--data-dir", dir, "--listen", taken.Addr().String())
	require.Equal(t, exitFailed, code, stderr)
	require.Contains(t, stderr, taken.Addr().String())
	require.Contains(t, stderr, "--listen")
	requireNothingStarted(t, dir)
}

// requireNothingStarted requires that there is at most a log.
func requireNothingStarted(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	for _, entry := range entries {
		require.Equal(t, "convoflow.log", entry.Name())
	}
	require.Empty(t, processesOf(t, dir))
}

// TestLifeOfAPlatform starts a platform, a second one besides it and a third one on its data, stops it during work, kills it,
// and requires its data after each restart.
func TestLifeOfAPlatform(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, f.settings()...)
	t.Logf("the first start took %s", s.start())
	a := s.newAgent()

	t.Run("a second on the same data is refused", func(t *testing.T) {
		s := s.in(t)
		code, _, stderr := command(t, s.units[0].environ, built.platform(t, false), "up", "--data-dir", s.dir, "--listen", freeAddress(t))
		require.Equal(t, exitFailed, code, stderr)
		require.Contains(t, stderr, "used by another running process")
		require.True(t, s.isReady())
		s.as(a).login()
	})
	t.Run("a second on its own data is another world", func(t *testing.T) {
		second := newPlatform(t, f, false, f.settings()...)
		second.start()
		second.as(a).post("/auth/login", url.Values{"username": {a.email}, "password": {a.password}}).refused(http.StatusUnauthorized, "invalid_credentials")
		require.NotEmpty(t, second.newAgent().newClient().ID)
		s.in(t).as(a).login()
	})
	t.Run("Ctrl-C drains", func(t *testing.T) {
		s := s.in(t)
		a := s.as(a)
		working := s.openai.Block(openai.Transcriptions)
		first := a.upload(nil)
		working.Wait(t)

		audio := salesCall(t)
		rest, send := io.Pipe()
		before := len(s.files())
		answered := make(chan answer, 1)
		go func() {
			got, err := a.try(http.MethodPost, "/calls/upload", recording("b.ogg", io.MultiReader(bytes.NewReader(audio[:10_000]), rest), int64(len(audio)), map[string]string{"force": "true"}))
			if err != nil {
				t.Error(err)
			}
			answered <- got
		}()
		poll(t, startTimeout, "the upload has begun", func() bool { return len(s.files()) > before })

		p := s.units[0].running()
		p.Signal(syscall.SIGINT)
		p.await(t, "Stopping")
		_, err := send.Write(audio[10_000:])
		require.NoError(t, err)
		require.NoError(t, send.Close())
		var second call
		(<-answered).must(http.StatusAccepted).into(&second)
		require.Zero(t, p.wait(t), "exit code")
		require.Empty(t, processesOf(t, s.dir))

		t.Logf("the second start took %s", s.start())
		require.Equal(t, 2, s.as(a).completed(first.ID).Attempts, "the work was handed back")
		s.as(a).completed(second.ID)
	})
	t.Run("kill -9 leaves no process and all data", func(t *testing.T) {
		s := s.in(t)
		s.kill()
		poll(t, stopTimeout, "PostgreSQL has ended too", func() bool { return len(processesOf(t, s.dir)) == 0 })
		t.Logf("the start after it took %s", s.start())
		require.Len(t, s.as(a).ids("/calls"), 2)
	})
	t.Run("kill -9 of it and of PostgreSQL at once", func(t *testing.T) {
		s := s.in(t)
		postmaster := s.postmaster()
		s.kill()
		require.NoError(t, syscall.Kill(postmaster, syscall.SIGKILL))
		s.start()
		require.Len(t, s.as(a).ids("/calls"), 2)
	})
}

// TestDemo runs the demo as a new user does: nothing is running or configured, so everything is embedded and temporary.
func TestDemo(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	code, stdout, stderr := command(t, environ("TMPDIR="+temp), built.platform(t, false), "demo", "--url", "http://"+freeAddress(t))
	require.Zero(t, code, "%s\n%s", stdout, stderr)
	for _, part := range []string{"a platform of its own", "offline-pocketsphinx", "demo quality", "Summary", "Next step", transcriptionCompleted, followUpScheduled, "valid", "its data is removed", "make up"} {
		require.Contains(t, stdout, part)
	}
	requireNothingLeft(t, temp)
	t.Log(stdout)
}

// requireNothingLeft requires that a directory for temporary files is empty and no process runs in it.
func requireNothingLeft(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.Empty(t, processesOf(t, dir))
}

func TestDemoOnARunningPlatform(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, f.settings()...)
	s.start()
	temp := t.TempDir()
	code, stdout, stderr := command(t, environ("TMPDIR="+temp), built.platform(t, false), "demo", "--url", s.url)
	require.Zero(t, code, "%s\n%s", stdout, stderr)
	require.NotContains(t, stdout, "a platform of its own")
	require.Contains(t, stdout, s.url+"/docs")
	trace := regexp.MustCompile(`trace joins it: ([0-9a-f]{32})`).FindStringSubmatch(stdout)
	require.NotEmpty(t, trace, stdout)
	require.Contains(t, s.log(), trace[1])
	s.pabbly.WaitFor(t, transcriptionCompleted, 1)
	s.pabbly.WaitFor(t, followUpScheduled, 1)
	requireNothingLeft(t, temp)
}

func TestCtrlCStopsTheDemoAndRemovesItsData(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	working := f.openai.Block(openai.Transcriptions)
	temp := t.TempDir()
	p := launch(t, "demo", []string{built.platform(t, false), "demo", "--url", "http://" + freeAddress(t)}, environ(append(f.settings(), "TMPDIR="+temp)...))
	t.Cleanup(p.Kill)
	working.Wait(t)
	require.NotEmpty(t, processesOf(t, temp))
	require.Equal(t, exitFailed, p.stop(t, syscall.SIGINT), p.Output.String())
	require.Contains(t, p.Output.String(), "convoflow: interrupted\n")
	requireNothingLeft(t, temp)
}

func TestAFailedDemoLeavesItsLogs(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	code, _, stderr := command(t, environ("TMPDIR="+temp, "REGISTRATION=closed"), built.platform(t, false), "demo", "--url", "http://"+freeAddress(t))
	require.Equal(t, exitFailed, code, stderr)
	require.Contains(t, stderr, "registration_closed")
	log := regexp.MustCompile(`\S+/convoflow\.log`).FindString(stderr)
	require.Equal(t, temp, filepath.Dir(filepath.Dir(log)), stderr)
	require.FileExists(t, log)
	require.NoFileExists(t, filepath.Join(filepath.Dir(log), "secrets.json"))
	require.Empty(t, processesOf(t, temp))
}

// TestSettingsFromFiles passes secrets as Kubernetes and Compose do.
func TestSettingsFromFiles(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	dir := t.TempDir()
	var settings []string
	for _, pair := range append(f.settings(), "SECRET_KEY="+conf.NewSecret()) {
		name, value, _ := strings.Cut(pair, "=")
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(value+"\n"), 0o600))
		settings = append(settings, name+"_FILE="+file)
	}
	s := newPlatform(t, f, false, settings...)
	s.start()
	a := s.newAgent()
	a.completed(a.upload(nil).ID)
	s.pabbly.WaitFor(t, transcriptionCompleted, 1)
	s.pabbly.RequireValid(t)
}
