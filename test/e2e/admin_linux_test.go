package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestAdminTypesThePassword uses a terminal: it does not echo the password, and echoes again afterwards, also after Ctrl-C.
func TestAdminTypesThePassword(t *testing.T) {
	t.Parallel()
	s := newPlatform(t, fakes{}, false)
	s.start()
	s.stop()
	a := s.anonymous()

	code, shown := s.adminOnTerminal(a.email, a.password+"\n")
	require.Zero(t, code, shown)
	require.Equal(t, "Password: \r\n"+a.email+" is an admin\r\n", shown)
	code, shown = s.adminOnTerminal("x@example.com", "viol\x03")
	require.Equal(t, exitFailed, code, shown)
	require.Equal(t, "Password: convoflow: interrupted\r\n", shown)
	require.Empty(t, processesOf(t, s.dir), "PostgreSQL has stopped")

	s.start()
	s.requireAdmin(a)
}

// adminOnTerminal runs admin create on a terminal of its own, types at the prompt, and returns what the terminal shows.
func (s *stack) adminOnTerminal(email, typed string) (code int, shown string) {
	t := s.t
	t.Helper()
	outer, inner := openTerminal(t)
	cmd := exec.CommandContext(t.Context(), built.platform(t, false), "admin", "create", "--data-dir", s.dir, "--email", email)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = s.units[0].environ, inner, inner, inner
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	for buffer := make([]byte, 1<<10); shown != "Password: "; {
		n, err := outer.Read(buffer)
		require.NoError(t, err, shown)
		shown += string(buffer[:n])
	}
	poll(t, stopTimeout, "the terminal shows nothing", func() bool { return !echoes(t, inner) })
	_, err := outer.WriteString(typed)
	require.NoError(t, err)
	_ = cmd.Wait() // its state says how it ended
	require.True(t, echoes(t, inner), "the terminal is as it was")
	require.NoError(t, inner.Close())
	rest := make([]byte, 1<<10)
	n, err := outer.Read(rest)
	require.NoError(t, err)
	return cmd.ProcessState.ExitCode(), shown + string(rest[:n])
}

// openTerminal opens a pseudo-terminal: the user's end and the program's end. pty(7)
func openTerminal(t testing.TB) (outer, inner *os.File) {
	t.Helper()
	outer, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = outer.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(outer.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(outer.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	inner, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = inner.Close() })
	return outer, inner
}

func echoes(t testing.TB, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return state.Lflag&unix.ECHO != 0
}
