package auth_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/doctor"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth"
	"github.com/convoflow/convoflow/services/auth/internal/key"
)

func closed(c *auth.Config) { c.Registration = "closed" }

func (a app) createAdmin(stdin string, args ...string) (string, error) {
	var out bytes.Buffer
	err := auth.CreateAdmin(a.T.Context(), a.cfg, telemetry.Nop(), args, strings.NewReader(stdin), &out)
	return out.String(), err
}

// admin creates an admin from the shell and logs in.
func (a app) admin() string {
	a.T.Helper()
	out, err := a.createAdmin("tangerine-otter\n", "--email", "Root@example.com", "--name", "Root")
	require.NoError(a.T, err)
	require.Equal(a.T, "root@example.com is an admin\n", out)
	return a.token("root@example.com")
}

func TestAdminFromTheShell(t *testing.T) {
	t.Parallel()
	s := start(t)
	admin := s.admin()
	require.Equal(t, "agent", s.register("asha@example.com").Text("role"), "the platform has its admin")
	require.Equal(t, "admin", s.me(admin).Text("role"))

	out, err := s.createAdmin("", "--email=asha@example.com")
	require.NoError(t, err)
	require.Equal(t, "asha@example.com is an admin, with the password it had\n", out)
	require.Equal(t, "admin", s.me(s.token("asha@example.com")).Text("role"))

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
		_, err := s.createAdmin(c.stdin, c.args...)
		require.ErrorContains(t, err, c.says, name)
		require.NotContains(t, err.Error(), "violet-heron", name)
	}
	_, err = s.createAdmin("  spaces count \r\n", "--email", "di@example.com")
	require.NoError(t, err)
	s.login("di@example.com", "  spaces count ").Is(200)
}

func TestTheBinaryHasTheCommands(t *testing.T) {
	t.Parallel()
	var names []string
	for _, c := range auth.Defaults().Commands() {
		names = append(names, c.Name)
		require.NotEmpty(t, c.Help)
	}
	require.Equal(t, []string{"dlq list", "dlq show", "dlq requeue", "doctor", "migrate", "outbox status", "admin create", "keys rotate", "reseal"}, names)
}

// publicKeys returns the keys of auth as another service fetches them.
func (a app) publicKeys() *token.Remote {
	a.T.Helper()
	keys := token.Fetch(a.URL+"/.well-known/jwks.json", http.DefaultClient, clock.System{}, telemetry.Nop())
	servicetest.Run(a.T, keys)
	a.Await("the keys are fetched", func() bool { return keys.Ready(a.T.Context()) == nil })
	return keys
}

// verifier verifies tokens as another service does.
func (a app) verifier() *token.Verifier {
	a.T.Helper()
	return token.NewVerifier(a.publicKeys().Key, clock.System{})
}

func TestRotationRefusesNoToken(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register("asha@example.com")
	before := s.token("asha@example.com")
	elsewhere := s.verifier() // it fetches the keys before the rotation and not again in this test

	var out bytes.Buffer
	require.ErrorContains(t, auth.RotateKeys(t.Context(), s.cfg, telemetry.Nop(), &out), "try again later")
	value[string](s, `update signing_keys set since = since - interval '5 minutes' where state = 'next' returning kid::text`)
	require.NoError(t, auth.RotateKeys(t.Context(), s.cfg, telemetry.Nop(), &out))
	require.Equal(t, "another key signs within 30s\n", out.String())
	require.Equal(t, 3, value[int](s, `select count(*) from signing_keys where state in ('old', 'signing', 'next')`))

	fresh := s.replica() // it signs with the new key already; s has not read it yet
	after := fresh.token("asha@example.com")
	renewed := fresh.verifier()
	for name, text := range map[string]string{"before": before, "after": after, "at the replica that lags": s.token("asha@example.com")} {
		for _, verifier := range []*token.Verifier{elsewhere, renewed} {
			_, err := verifier.Verify(text)
			require.NoError(t, err, name)
		}
		for _, at := range []app{s, fresh} {
			require.Equal(t, http.StatusOK, at.me(text).Status, name)
		}
	}
}

func TestSecretIsReplaced(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register("asha@example.com")
	bearer := s.token("asha@example.com")
	const secret = "an0ther-One-0f-thirty-two-lettersX"
	renewed := s.replica(func(c *auth.Config) { c.SecretKey, c.PreviousKey = secret, c.SecretKey })
	renewed.me(bearer).Is(200)
	s.me(renewed.token("asha@example.com")).Is(200)
	var out bytes.Buffer
	require.NoError(t, auth.Reseal(t.Context(), s.cfg, telemetry.Nop(), io.Discard), "nothing to do with one secret")
	for range 2 {
		require.NoError(t, auth.Reseal(t.Context(), renewed.cfg, telemetry.Nop(), &out))
	}
	require.Equal(t, "2 of 2 signing keys were sealed again\n0 of 2 signing keys were sealed again\n", out.String())
	require.ErrorIs(t, auth.Reseal(t.Context(), s.cfg, telemetry.Nop(), &out), key.ErrSealed, "only the former secret")
	var found doctor.Report
	s.cfg.ExamineSecret(t.Context(), &found)
	renewed.cfg.ExamineSecret(t.Context(), &found)
	require.Equal(t, []doctor.Level{doctor.Problem, doctor.OK}, []doctor.Level{found.Findings[0].Level, found.Findings[1].Level})
	onlyNew := s.replica(func(c *auth.Config) { c.SecretKey = secret })
	onlyNew.me(bearer).Is(200)
}

func TestMigrateCommand(t *testing.T) {
	t.Parallel()
	cfg := auth.Defaults()
	cfg.Database.URL = conf.Secret(pgtest.Schema(t))
	commands := cfg.Commands()
	migrate := commands[slices.IndexFunc(commands, func(c run.Command) bool { return c.Name == "migrate" })]
	for range 2 {
		require.NoError(t, migrate.Run(t.Context(), telemetry.Nop(), nil))
	}
	db, err := pg.Open(t.Context(), cfg.Database, "unused", telemetry.Nop())
	require.NoError(t, err)
	t.Cleanup(db.Close)
	tables := []string{"agents", "idempotency", "inbox", "login_failures", "outbox", "river_job", "sessions", "signing_keys"}
	require.Equal(t, tables, pgtest.Column[string](t, db,
		`select table_name::text from information_schema.tables where table_schema = current_schema and table_name = any($1) order by table_name`, tables))
}

func TestDeadLettersOfTheService(t *testing.T) {
	t.Parallel()
	s := start(t)
	var out bytes.Buffer
	commands := map[string]func(context.Context, telemetry.Set, []string) error{}
	for _, c := range service.Commands(auth.Contract(), s.cfg, nil, &out) {
		commands[c.Name] = c.Run
	}
	require.NoError(t, commands["dlq list"](t.Context(), telemetry.Nop(), nil))
	require.Equal(t, "There are no dead letters.\n", out.String())
	require.ErrorContains(t, commands["dlq show"](t.Context(), telemetry.Nop(), []string{"erasures.v1.auth.dlq", "7"}), "erasures.v1.auth.dlq")
	require.ErrorContains(t, commands["dlq requeue"](t.Context(), telemetry.Nop(), []string{"erasures.v1.crm.dlq"}), "ends with .auth.dlq", "that of another service")
}
