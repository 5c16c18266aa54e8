package agent_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/email"
	"github.com/convoflow/convoflow/services/auth/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var now = time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)

// plain hashes a password by marking it, and records what was verified: a real hash takes 30 ms.
type plain struct {
	mu       sync.Mutex
	verified []string
}

func (*plain) Hash(_ context.Context, password string) (string, error) {
	return "hash of " + password, nil
}

func (p *plain) Verify(_ context.Context, hash, password string) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verified = append(p.verified, hash)
	return hash == "hash of "+password || hash == "old hash of "+password, nil
}

func (*plain) Outdated(hash string) bool { return strings.HasPrefix(hash, "old") }

func (*plain) Common(password string) bool { return password == "password" }

// readable signs tokens that the tests can read.
type readable struct{}

func (readable) Sign(c identity.Caller) (string, error) {
	return strings.Join([]string{c.AgentID, c.SessionID, string(c.Role)}, " "), nil
}

// fixture is the service on a fresh schema, with a clock that the test moves.
type fixture struct {
	*agent.Service
	db        *pg.DB
	passwords *plain
	clock     *clock.Manual
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	db := pgtest.Open(t, outbox.Migrations(), idempotency.Migrations(), store.Migrations())
	out, p, c := outbox.New(db, telemetry.Nop()), &plain{}, clock.At(now)
	return fixture{&agent.Service{
		Agents: store.Agents(db, out), Sessions: store.Sessions(db, out), Attempts: store.Attempts(db), Registrations: store.Registrations(db), Erasures: store.Erasures(db, out), NormalizeEmail: email.Normalize, Passwords: p, Tokens: readable{}, Tx: db, Clock: c,
		Open: true, TokenTTL: time.Hour, AttemptSecret: []byte("secret"),
	}, db, p, c}
}

// events returns the events in the outbox, oldest first.
func (f fixture) events(t *testing.T) []event.Event {
	t.Helper()
	rows, err := f.db.Conn(t.Context()).Query(t.Context(), `select type, data from outbox order by id`)
	require.NoError(t, err)
	published, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e event.Event, err error) {
		return e, row.Scan(&e.Type, &e.Data)
	})
	require.NoError(t, err)
	return published
}

const password = "tangerine-otter"

func (f fixture) register(t *testing.T, email string) agent.Agent {
	t.Helper()
	a, err := f.Register(t.Context(), agent.RegisterRequest{Email: email, Password: password, FullName: "Asha Rao"})
	require.NoError(t, err)
	return a
}

// from returns the context of a request from that address.
func from(t *testing.T, ip string) context.Context {
	t.Helper()
	return agent.WithDevice(t.Context(), agent.Device{UserAgent: "phone", IP: ip})
}

func (f fixture) login(t *testing.T, email string) agent.AccessToken {
	t.Helper()
	got, err := f.Login(from(t, "203.0.113.7"), agent.LoginRequest{Username: email, Password: password})
	require.NoError(t, err)
	return got
}

// as returns the context of a request with that access token, or the fault that refuses it.
func (f fixture) as(t *testing.T, token string) (context.Context, error) {
	t.Helper()
	parts := strings.Split(token, " ")
	c, err := f.Admit(t.Context(), identity.Caller{AgentID: parts[0], SessionID: parts[1], Role: identity.Role(parts[2])})
	return identity.With(t.Context(), c), err
}

func (f fixture) mustAs(t *testing.T, token string) context.Context {
	t.Helper()
	ctx, err := f.as(t, token)
	require.NoError(t, err)
	return ctx
}

func (f fixture) sessions(t *testing.T, a agent.Agent) []agent.Session {
	t.Helper()
	found, err := f.Sessions.List(t.Context(), a.ID, page.All())
	require.NoError(t, err)
	return found.Items
}

// ends returns why sessions ended, in order.
func (f fixture) ends(t *testing.T) (reasons []string) {
	t.Helper()
	for _, e := range f.events(t) {
		if e.Type == "session.revoked" {
			got, err := events.SessionRevoked.Decode(e)
			require.NoError(t, err)
			reasons = append(reasons, got.Data.Reason)
		}
	}
	return reasons
}

func TestRegister(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, err := f.Register(t.Context(), agent.RegisterRequest{Email: " Asha@Example.COM ", Password: "tangerine-otter", FullName: "  Asha Rao "})
	require.NoError(t, err)
	require.Equal(t, agent.Agent{
		ID: first.ID, Version: 1, Email: "asha@example.com", PasswordHash: "hash of tangerine-otter", PasswordSetAt: now, FullName: "Asha Rao",
		Role: identity.Admin, IsActive: true, CreatedAt: now, UpdatedAt: now,
	}, first)
	second, err := f.Register(t.Context(), agent.RegisterRequest{Email: "ben@example.com", Password: "tangerine-otter", Name: "Ben"})
	require.NoError(t, err)
	require.Equal(t, identity.Agent, second.Role)
	require.Equal(t, "Ben", second.FullName)

	_, err = f.Register(t.Context(), agent.RegisterRequest{Email: "ASHA@example.com", Password: "tangerine-otter", Name: "A"})
	require.Equal(t, "email_taken", fault.Of(err).Code)

	published := f.events(t)
	require.Len(t, published, 2)
	got, err := events.AgentRegistered.Decode(published[0])
	require.NoError(t, err)
	require.Equal(t, events.Agent{
		AgentID: first.ID, Version: 1, Email: "asha@example.com", FullName: "Asha Rao", Role: "admin", IsActive: true, CreatedAt: now, UpdatedAt: now,
	}, got.Data)
}

func TestRegisterNamesEveryWrongField(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	right := agent.RegisterRequest{Password: "12345678", FullName: "Asha"}
	for name, c := range map[string]struct {
		change func(*agent.RegisterRequest)
		want   []string
	}{
		"all":                   {func(r *agent.RegisterRequest) { *r = agent.RegisterRequest{} }, []string{"email value_error", "password string_too_short", "full_name missing"}},
		"blank name":            {func(r *agent.RegisterRequest) { r.FullName = " \t" }, []string{"full_name string_too_short"}},
		"long name":             {func(r *agent.RegisterRequest) { r.FullName = strings.Repeat("é", 201) }, []string{"full_name string_too_long"}},
		"longest name":          {func(r *agent.RegisterRequest) { r.FullName = strings.Repeat("é", 200) }, nil},
		"common password":       {func(r *agent.RegisterRequest) { r.Password = "password" }, []string{"password password_common"}},
		"short password":        {func(r *agent.RegisterRequest) { r.Password = "éééé567" }, []string{"password string_too_short"}},
		"longest password":      {func(r *agent.RegisterRequest) { r.Password = strings.Repeat("é", 128) }, nil},
		"long password":         {func(r *agent.RegisterRequest) { r.Password = strings.Repeat("x", 129) }, []string{"password string_too_long"}},
		"two @":                 {func(r *agent.RegisterRequest) { r.Email = "a@b@example.com" }, []string{"email value_error"}},
		"no @":                  {func(r *agent.RegisterRequest) { r.Email = "example.com" }, []string{"email value_error"}},
		"no local part":         {func(r *agent.RegisterRequest) { r.Email = "@example.com" }, []string{"email value_error"}},
		"no domain":             {func(r *agent.RegisterRequest) { r.Email = "asha@" }, []string{"email value_error"}},
		"display name":          {func(r *agent.RegisterRequest) { r.Email = "Asha <asha@example.com>" }, []string{"email value_error"}},
		"two lines":             {func(r *agent.RegisterRequest) { r.Email = "asha@example.com\r\nBcc:x" }, []string{"email value_error"}},
		"longest address":       {func(r *agent.RegisterRequest) { r.Email = strings.Repeat("a", 242) + "@example.com" }, nil},
		"long address":          {func(r *agent.RegisterRequest) { r.Email = strings.Repeat("a", 243) + "@example.com" }, []string{"email string_too_long"}},
		"long address in bytes": {func(r *agent.RegisterRequest) { r.Email = strings.Repeat("é", 122) + "@example.com" }, []string{"email string_too_long"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := right
			r.Email = strings.ReplaceAll(name, " ", "-") + "@example.com"
			c.change(&r)
			_, err := f.Register(t.Context(), r)
			require.Equal(t, c.want == nil, err == nil)
			var wrong []string
			if err != nil {
				for _, f := range fault.Of(err).Fields {
					require.Equal(t, "body", f.Loc[0])
					wrong = append(wrong, f.Loc[1].(string)+" "+f.Type)
				}
			}
			require.Equal(t, c.want, wrong)
		})
	}
}

func TestTheFirstRunEndsWithTheFirstAccount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	before, err := f.Registration(t.Context(), agent.RegistrationRequest{})
	require.NoError(t, err)
	require.Equal(t, agent.Registration{Open: f.Open, FirstRun: true}, before)
	f.register(t, "asha@example.com")
	after, err := f.Registration(t.Context(), agent.RegistrationRequest{})
	require.NoError(t, err)
	require.Equal(t, agent.Registration{Open: f.Open}, after)
}

func TestClosedRegistration(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Open = false
	_, err := f.Register(t.Context(), agent.RegisterRequest{Email: "asha@example.com", Password: "12345678", FullName: "Asha"})
	require.Equal(t, fault.Forbidden, fault.KindOf(err))
	require.Equal(t, "registration_closed", fault.Of(err).Code)
}

func TestMeAndUpdate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.register(t, "asha@example.com")
	ctx := identity.With(t.Context(), identity.Caller{AgentID: a.ID, Role: a.Role})
	got, err := f.Me(ctx, agent.MeRequest{})
	require.NoError(t, err)
	require.Equal(t, a, got)

	got, err = f.Update(ctx, agent.UpdateRequest{FullName: new(" Asha Iyer ")})
	require.NoError(t, err)
	require.Equal(t, "Asha Iyer", got.FullName)
	require.EqualValues(t, 2, got.Version)
	again, err := f.Update(ctx, agent.UpdateRequest{Name: new("Asha Iyer")})
	require.NoError(t, err)
	require.Equal(t, got, again, "the same name changes nothing")

	_, err = f.Update(ctx, agent.UpdateRequest{FullName: new("  ")})
	require.Equal(t, "string_too_short", fault.Of(err).Fields[0].Type)

	published := f.events(t)
	require.Len(t, published, 2)
	updated, err := events.AgentUpdated.Decode(published[1])
	require.NoError(t, err)
	require.Equal(t, "Asha Iyer", updated.Data.FullName)
	require.EqualValues(t, 2, updated.Data.Version)
}

func TestARequestWithoutACallerIsRefused(t *testing.T) {
	t.Parallel()
	f, ctx := newFixture(t), t.Context()
	for name, call := range map[string]func() error{
		"me":     func() error { _, err := f.Me(ctx, agent.MeRequest{}); return err },
		"update": func() error { _, err := f.Update(ctx, agent.UpdateRequest{FullName: new("New")}); return err },
		"logout": func() error { _, err := f.Logout(ctx, agent.LogoutRequest{}); return err },
		"password": func() error {
			_, err := f.ChangePassword(ctx, agent.ChangePasswordRequest{New: "violet-heron"})
			return err
		},
		"sessions":       func() error { _, err := f.ListSessions(ctx, agent.ListSessionsRequest{}); return err },
		"remove session": func() error { _, err := f.RemoveSession(ctx, agent.RemoveSessionRequest{}); return err },
	} {
		require.Equal(t, fault.Unauthenticated, fault.KindOf(call()), name)
	}
}
