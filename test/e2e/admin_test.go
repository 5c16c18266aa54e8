package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

// createAdmin runs convoflow admin create with the settings of the stack and further ones. It passes the password on stdin.
func (s *stack) createAdmin(password string, settings []string, arguments ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	argv := []string{"sh", "-c", `printf '%s\n' "$0" | "$@"`, password, built.platform(s.t, false), "admin", "create", "--data-dir", s.dir}
	return command(s.t, append(s.units[0].environ, settings...), append(argv, arguments...)...)
}

// newAdmin creates an admin from the shell and logs in.
func (s *stack) newAdmin() *agent {
	s.t.Helper()
	a := s.anonymous()
	code, stdout, stderr := s.createAdmin(a.password, nil, "--email", a.email, "--name", a.name)
	require.Zero(s.t, code, stderr)
	require.Equal(s.t, a.email+" is an admin\n", stdout)
	require.Empty(s.t, stderr)
	return a
}

// requireAdmin logs in and requires that an operation for admins is allowed.
func (s *stack) requireAdmin(a *agent) {
	s.t.Helper()
	a = s.as(a)
	a.login()
	a.get("/webhooks/deliveries").must(http.StatusOK)
}

func TestAdminOfAnEmbeddedPlatform(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, append(f.settings(), "REGISTRATION=closed")...)
	code, _, stderr := s.createAdmin("violet heron", nil, "--email", "early@example.com")
	require.Equal(t, exitUsage, code, stderr)
	require.Contains(t, stderr, s.dir)
	require.Contains(t, stderr, "convoflow up")
	requireNothingStarted(t, s.dir)

	s.start()
	a := s.newAdmin()
	s.requireAdmin(a)

	t.Run("dead letters of the embedded broker", func(t *testing.T) {
		dlq := func(arguments ...string) (int, string) {
			code, stdout, stderr := command(t, s.units[0].environ, append([]string{built.platform(t, false), "dlq"}, arguments...)...)
			return code, stdout + stderr
		}
		code, said := dlq("list", "--data-dir", s.dir)
		require.Zero(t, code, said)
		require.Equal(t, "There are no dead letters.\n", said)
		code, said = dlq("show", "crm.clients.v1.notify.dlq", "17", "--data-dir", s.dir)
		require.Equal(t, exitFailed, code, said)
		require.Contains(t, said, "there is no topic crm.clients.v1.notify.dlq")
		code, said = dlq("requeue", "crm.clients.v1", "--data-dir", s.dir)
		require.Equal(t, exitFailed, code, said)
		require.Contains(t, said, "crm.clients.v1 is not a dead-letter topic")
		code, said = dlq("list", "--data-dir", t.TempDir())
		require.Equal(t, exitFailed, code, said)
		require.Contains(t, said, "no platform is running on this data directory")
		code, said = dlq("show", "crm.clients.v1.notify.dlq", "seventeen")
		require.Equal(t, exitUsage, code, said)
		require.Contains(t, said, `"seventeen" is not an offset`)
	})

	t.Run("the services receive the event", func(t *testing.T) {
		a := s.in(t).as(a)
		a.login()
		a.completed(a.upload(nil).ID)
		require.Contains(t, string(s.pabbly.WaitFor(t, transcriptionCompleted, 1)[0].Body), a.email)
	})
	t.Run("an agent is promoted and keeps the password", func(t *testing.T) {
		s := s.in(t)
		admin, b := s.as(a), s.anonymous()
		admin.login()
		admin.post("/agents", map[string]any{"email": b.email, "password": b.password, "full_name": b.name}).must(http.StatusCreated)
		b.login()
		b.get("/webhooks/deliveries").refused(http.StatusForbidden, "admin_only")
		for range 2 { // the second time changes nothing
			code, stdout, stderr := s.createAdmin("", nil, "--email", strings.ToUpper(b.email))
			require.Zero(t, code, stderr)
			require.Equal(t, b.email+" is an admin, with the password it had\n", stdout)
			s.requireAdmin(b)
		}
	})
	t.Run("what is wrong is said", func(t *testing.T) {
		s := s.in(t)
		for name, c := range map[string]struct {
			password  string
			arguments []string
			code      int
			says      string
		}{
			"nobody":                 {"", nil, exitUsage, "--email"},
			"no address":             {"", []string{"--email", "somebody"}, exitUsage, "--email: Input should be a valid e-mail address"},
			"no name":                {"", []string{"--email", "x@example.com", "--name", " "}, exitUsage, "--name: String should have at least 1"},
			"password as argument":   {"", []string{"--email", "x@example.com", "violet heron"}, exitUsage, "the password is asked for"},
			"password as flag":       {"", []string{"--email", "x@example.com", "--password", "violet heron"}, exitUsage, "not defined: -password"},
			"no password":            {"", []string{"--email", "x@example.com"}, exitFailed, "password: String should have at least 8"},
			"short password":         {"violet", []string{"--email", "x@example.com"}, exitFailed, "password: String should have at least 8"},
			"common password":        {"password1", []string{"--email", "x@example.com"}, exitFailed, "password: This password is one of those that are guessed first"},
			"another data directory": {"violet heron", []string{"--email", "x@example.com", "--data-dir", t.TempDir()}, exitUsage, "no platform was ever started"},
		} {
			code, _, stderr := s.createAdmin(c.password, nil, c.arguments...)
			require.Equal(t, c.code, code, "%s: %s", name, stderr)
			require.Contains(t, stderr, c.says, name)
			require.NotContains(t, stderr, "violet heron", name)
		}
	})
	t.Run("another SECRET_KEY changes nothing", func(t *testing.T) {
		s := s.in(t)
		code, _, stderr := s.createAdmin("violet heron", []string{"SECRET_KEY=" + conf.NewSecret()}, "--email", "x@example.com")
		require.Equal(t, exitUsage, code, stderr)
		require.Contains(t, stderr, "SECRET_KEY is not the one")
		s.requireAdmin(a)
	})

	s.stop()
	b := s.newAdmin()
	require.Empty(t, processesOf(t, s.dir), "PostgreSQL ran for the moment only")
	s.start()
	s.requireAdmin(a)
	s.requireAdmin(b)
}

func TestAdminWithTheRealPostgreSQL(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, append(f.settings(), "DATABASE_URL="+pgtest.Database(t))...)
	code, _, stderr := s.createAdmin("violet heron", nil, "--email", "early@example.com")
	require.Equal(t, exitUsage, code, "without a SECRET_KEY there is nothing to begin with")
	require.Contains(t, stderr, "no platform was ever started")

	s.units[0].environ = append(s.units[0].environ, "SECRET_KEY="+conf.NewSecret())
	first := s.newAdmin()
	require.NoDirExists(t, s.dir, "all of it is elsewhere")
	s.start()
	second := s.newAdmin()
	s.requireAdmin(first)
	s.requireAdmin(second)

	code, _, stderr = s.createAdmin("violet heron", []string{"SECRET_KEY=" + conf.NewSecret()}, "--email", "x@example.com")
	require.Equal(t, exitUsage, code, stderr)
	require.Contains(t, stderr, "SECRET_KEY is not the one")

	code, _, stderr = s.createAdmin("violet heron", []string{"DATABASE_URL=postgres://nobody:secret@" + freeAddress(t) + "/nowhere"}, "--email", "x@example.com")
	require.Equal(t, exitFailed, code, stderr)
	require.Contains(t, stderr, "connect to PostgreSQL")
	require.NotContains(t, stderr, "secret@")
	require.NoDirExists(t, filepath.Join(s.dir, "postgres"))
}
