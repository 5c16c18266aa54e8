package main

import (
	"bufio"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgtest/temporary"
)

// childEnv makes the test binary act as the command itself.
const childEnv = "WITH_POSTGRES_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command starts with-postgres, with its server in dir. Its standard input stays open until the test ends.
func command(t *testing.T, dir string, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"=1", temporary.URLVariable+"=", "TMPDIR="+dir)
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewReader(out)
}

// serverAddress reads the URL that the command printed and checks that a server listens there.
func serverAddress(t *testing.T, out *bufio.Reader) string {
	t.Helper()
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	u, err := url.Parse(strings.TrimSpace(line))
	require.NoError(t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	return u.Host
}

func requireStopped(t *testing.T, dir, address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		running, _ := filepath.Glob(filepath.Join(dir, "*", "data", "postmaster.pid"))
		return err != nil && len(running) == 0
	}, time.Minute, 10*time.Millisecond, "postgres is still running")
}

func TestExitCodeIsTheCommands(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -9 $$": 137} {
		cmd, _ := command(t, t.TempDir(), "--", "sh", "-c", script)
		_ = cmd.Wait()
		require.Equal(t, want, cmd.ProcessState.ExitCode(), script)
	}
	cmd, _ := command(t, t.TempDir(), "--", "/no/such/command")
	_ = cmd.Wait()
	require.Equal(t, exitNotFound, cmd.ProcessState.ExitCode())
	cmd, _ = command(t, t.TempDir(), "--")
	_ = cmd.Wait()
	require.Equal(t, exitUsage, cmd.ProcessState.ExitCode())
}

func TestSignalReachesTheCommandAndStopsTheServer(t *testing.T) {
	t.Parallel()
	const script = `trap 'echo caught; exit 7' INT TERM; echo "$TEST_DATABASE_URL"; while :; do sleep 0.05; done`
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		dir := t.TempDir()
		cmd, out := command(t, dir, "--", "sh", "-c", script)
		address := serverAddress(t, out)
		require.NoError(t, cmd.Process.Signal(sig))
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		require.Contains(t, string(rest), "caught")
		_ = cmd.Wait()
		require.Equal(t, 7, cmd.ProcessState.ExitCode())
		requireStopped(t, dir, address)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left)
	}
}
