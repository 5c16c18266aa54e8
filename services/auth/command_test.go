package auth_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth"
)

func closed(c *auth.Config) { c.Registration = "closed" }

func (s service) config() auth.Config { return settings(s.database, s.brokers) }

func (s service) createAdmin(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := auth.CreateAdmin(t.Context(), s.config(), telemetry.Nop(), args, strings.NewReader(stdin), &out)
	return out.String(), err
}

// admin makes an admin from the shell and logs it in.
func (s service) admin(t *testing.T) string {
	t.Helper()
	out, err := s.createAdmin(t, "tangerine-otter\n", "--email", "Root@example.com", "--name", "Root")
	require.NoError(t, err)
	require.Equal(t, "root@example.com is an admin\n", out)
	return s.token(t, "root@example.com")
}

func TestAdminFromTheShell(t *testing.T) {
	t.Parallel()
	s := start(t)
	admin := s.admin(t)
	require.Equal(t, "agent", s.register(t, "asha@example.com").body["role"], "the platform has its admin")
	require.Equal(t, http.StatusOK, s.send(t, "GET", "/agents", "", "", admin).status)

	out, err := s.createAdmin(t, "", "--email=asha@example.com")
	require.NoError(t, err)
	require.Equal(t, "asha@example.com is an admin, with the password it had\n", out)
	require.Equal(t, "admin", s.me(t, s.token(t, "asha@example.com")).body["role"])

	for name, c := range map[string]struct {
		stdin string
		args  []string
		says  string
	}{
		"nobody":            {"", nil, "--email"},
		"no address":        {"violet-heron\n", []string{"--email", "cy"}, "e-mail address"},
		"as an argument":    {"", []string{"--email", "cy@example.com", "violet-heron"}, "--email"},
		"an unknown flag":   {"", []string{"--password", "violet-heron"}, "password"},
		"a common password": {"password\n", []string{"--email", "cy@example.com"}, "guessed first"},
		"no password":       {"", []string{"--email", "cy@example.com"}, "at least 8"},
	} {
		_, err := s.createAdmin(t, c.stdin, c.args...)
		require.ErrorContains(t, err, c.says, name)
		require.NotContains(t, err.Error(), "violet-heron", name)
	}
	_, err = s.createAdmin(t, "  spaces count \r\n", "--email", "di@example.com")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, s.login(t, "di@example.com", "  spaces count ").status)
}

func TestTheBinaryHasTheCommands(t *testing.T) {
	t.Parallel()
	var names []string
	for _, c := range auth.Defaults().Commands() {
		names = append(names, c.Name)
		require.NotEmpty(t, c.Help)
	}
	require.Equal(t, []string{"admin create", "keys rotate"}, names)
}

// remote is the keys of auth as another service has them.
func remote(t *testing.T, url string) *token.Verifier {
	t.Helper()
	keys := token.Fetch(url+"/.well-known/jwks.json", http.DefaultClient, telemetry.Nop())
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	go func() { _ = keys.Run(ctx) }()
	require.Eventually(t, func() bool { return keys.Ready(ctx) == nil }, 5*time.Second, 5*time.Millisecond)
	return token.NewVerifier(keys.Key, clock.System{})
}

func TestRotationRefusesNoToken(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register(t, "asha@example.com")
	before := s.token(t, "asha@example.com")
	elsewhere := remote(t, s.url) // it has looked before the rotation and does not look again in this test

	var out bytes.Buffer
	require.ErrorContains(t, auth.RotateKeys(t.Context(), s.config(), telemetry.Nop(), &out), "try again later")
	s.query(t, `update signing_keys set since = since - interval '5 minutes' where state = 'next' returning kid::text`, new(string))
	require.NoError(t, auth.RotateKeys(t.Context(), s.config(), telemetry.Nop(), &out))
	require.Equal(t, "another key signs within 30s\n", out.String())
	var states int
	s.query(t, `select count(*) from signing_keys where state in ('old', 'signing', 'next')`, &states)
	require.Equal(t, 3, states)

	fresh := replica(t, s.database, s.brokers) // it signs with the new key already; s does not know of the rotation yet
	after := fresh.token(t, "asha@example.com")
	renewed := remote(t, fresh.url)
	for name, text := range map[string]string{"before": before, "after": after, "at the replica that lags": s.token(t, "asha@example.com")} {
		for _, verifier := range []*token.Verifier{elsewhere, renewed} {
			_, err := verifier.Verify(text)
			require.NoError(t, err, name)
		}
		for _, at := range []service{s, fresh} {
			require.Equal(t, http.StatusOK, at.me(t, text).status, name)
		}
	}
}

func TestSecretIsReplaced(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register(t, "asha@example.com")
	bearer := s.token(t, "asha@example.com")
	const secret = "an0ther-One-0f-thirty-two-lettersX"
	renewed := replica(t, s.database, s.brokers, func(c *auth.Config) {
		c.SecretKey, c.PreviousKey = secret, c.SecretKey
	})
	require.Equal(t, http.StatusOK, renewed.me(t, bearer).status)
	require.Equal(t, http.StatusOK, s.me(t, renewed.token(t, "asha@example.com")).status)
	onlyNew := replica(t, s.database, s.brokers, func(c *auth.Config) { c.SecretKey = secret })
	require.Equal(t, http.StatusOK, onlyNew.me(t, bearer).status)
}

func TestMigrateCommand(t *testing.T) {
	t.Parallel()
	cfg := settings(pgtest.Schema(t), nil)
	for range 2 {
		require.NoError(t, cfg.Migrate(t.Context(), telemetry.Nop()))
	}
	s := service{database: cfg.Database.URL.Reveal()}
	var tables int
	s.query(t, `select count(*) from information_schema.tables where table_schema = current_schema and table_name in ('agents', 'sessions', 'login_failures', 'signing_keys', 'outbox', 'idempotency')`, &tables)
	require.Equal(t, 6, tables)
}
