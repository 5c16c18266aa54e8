package agent_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/agent/agenttest"
)

var now = time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)

// plain is passwords whose hash is the password with a mark, and notes what was verified.
type plain struct{ verified []string }

func (p *plain) Hash(_ context.Context, password string) (string, error) {
	return "hash of " + password, nil
}

func (p *plain) Verify(_ context.Context, hash, password string) (bool, error) {
	p.verified = append(p.verified, hash)
	return hash == "hash of "+password, nil
}

// open is tokens that say what they mean.
type open struct{}

func (open) Sign(c identity.Caller, ttl time.Duration) (string, error) {
	return strings.Join([]string{c.AgentID, c.SessionID, string(c.Role), ttl.String()}, " "), nil
}

type fixture struct {
	*agent.Service
	memory    *agenttest.Memory
	passwords *plain
}

func newFixture() fixture {
	m, p := agenttest.NewMemory(), &plain{}
	return fixture{&agent.Service{
		Agents: m, Sessions: m.Sessions(), Passwords: p, Tokens: open{}, Clock: clock.At(now), Open: true, TokenTTL: time.Hour,
	}, m, p}
}

func (f fixture) register(t *testing.T, email string) agent.Agent {
	t.Helper()
	a, err := f.Register(t.Context(), agent.RegisterRequest{Email: email, Password: "tangerine-otter", FullName: "Asha Rao"})
	require.NoError(t, err)
	return a
}

func TestMemoryKeepsWhatStoresPromise(t *testing.T) {
	t.Parallel()
	agenttest.Suite(t, func(*testing.T) (agent.Agents, func() []string) {
		m := agenttest.NewMemory()
		return m, func() (types []string) {
			for _, e := range m.Events() {
				types = append(types, e.Type)
			}
			return types
		}
	})
}

func TestRegister(t *testing.T) {
	t.Parallel()
	f := newFixture()
	first, err := f.Register(t.Context(), agent.RegisterRequest{Email: " Asha@Example.COM ", Password: "tangerine-otter", FullName: "  Asha Rao "})
	require.NoError(t, err)
	require.Equal(t, agent.Agent{
		ID: first.ID, Version: 1, Email: "asha@example.com", PasswordHash: "hash of tangerine-otter", FullName: "Asha Rao",
		Role: identity.Admin, IsActive: true, CreatedAt: now, UpdatedAt: now,
	}, first)
	second, err := f.Register(t.Context(), agent.RegisterRequest{Email: "ben@example.com", Password: "tangerine-otter", Name: "Ben"})
	require.NoError(t, err)
	require.Equal(t, identity.Agent, second.Role)
	require.Equal(t, "Ben", second.FullName)

	_, err = f.Register(t.Context(), agent.RegisterRequest{Email: "ASHA@example.com", Password: "tangerine-otter", Name: "A"})
	require.Equal(t, "email_taken", fault.Of(err).Code)

	events := f.memory.Events()
	require.Len(t, events, 2)
	got, err := contract.AgentRegistered.Decode(events[0])
	require.NoError(t, err)
	require.Equal(t, contract.Agent{
		AgentID: first.ID, Version: 1, Email: "asha@example.com", FullName: "Asha Rao", Role: "admin", IsActive: true, CreatedAt: now, UpdatedAt: now,
	}, got.Data)
}

func TestRegisterNamesEveryWrongField(t *testing.T) {
	t.Parallel()
	right := agent.RegisterRequest{Email: "asha@example.com", Password: "12345678", FullName: "Asha"}
	for name, c := range map[string]struct {
		change func(*agent.RegisterRequest)
		want   []string
	}{
		"all":                   {func(r *agent.RegisterRequest) { *r = agent.RegisterRequest{} }, []string{"email value_error", "password string_too_short", "full_name missing"}},
		"blank name":            {func(r *agent.RegisterRequest) { r.FullName = " \t" }, []string{"full_name string_too_short"}},
		"long name":             {func(r *agent.RegisterRequest) { r.FullName = strings.Repeat("é", 201) }, []string{"full_name string_too_long"}},
		"longest name":          {func(r *agent.RegisterRequest) { r.FullName = strings.Repeat("é", 200) }, nil},
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
			c.change(&r)
			_, err := newFixture().Register(t.Context(), r)
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

func TestClosedRegistration(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.Open = false
	_, err := f.Register(t.Context(), agent.RegisterRequest{Email: "asha@example.com", Password: "12345678", FullName: "Asha"})
	require.Equal(t, fault.Forbidden, fault.KindOf(err))
	require.Equal(t, "registration_closed", fault.Of(err).Code)
}

func TestLogin(t *testing.T) {
	t.Parallel()
	f := newFixture()
	a := f.register(t, "asha@example.com")
	ctx := agent.WithDevice(t.Context(), agent.Device{UserAgent: strings.Repeat("é", 300) + "\xff", IP: "203.0.113.7"})
	got, err := f.Login(ctx, agent.LoginRequest{Username: "Asha@Example.com ", Password: "tangerine-otter"})
	require.NoError(t, err)

	sessions := f.memory.Sessions().List()
	require.Len(t, sessions, 1)
	require.Equal(t, agent.Session{
		ID: sessions[0].ID, AgentID: a.ID, CreatedAt: now, LastUsedAt: now, UserAgent: strings.Repeat("é", 200), IP: "203.0.113.7",
	}, sessions[0])
	require.Equal(t, agent.AccessToken{AccessToken: a.ID + " " + sessions[0].ID + " admin 1h0m0s", TokenType: "bearer", ExpiresIn: 3600}, got)
}

func TestLoginTellsNothingToStrangers(t *testing.T) {
	t.Parallel()
	f := newFixture()
	f.register(t, "asha@example.com")
	inactive := f.register(t, "ben@example.com")
	f.deactivate(t, inactive.ID)

	var answers []*fault.Error
	for _, r := range []agent.LoginRequest{
		{Username: "asha@example.com", Password: "wrong"},
		{Username: "nobody@example.com", Password: "tangerine-otter"},
		{Username: "ben@example.com", Password: "tangerine-otter"},
		{},
	} {
		_, err := f.Login(t.Context(), r)
		answers = append(answers, fault.Of(err))
	}
	require.Equal(t, fault.Unauthenticated, answers[0].Kind)
	require.Equal(t, "invalid_credentials", answers[0].Code)
	require.Equal(t, "Invalid credentials", answers[0].Detail)
	for _, other := range answers[1:] {
		require.Equal(t, answers[0], other)
	}
	require.Equal(t, []string{"hash of tangerine-otter", "", "hash of tangerine-otter", ""}, f.passwords.verified, "each costs one hash")
	require.Empty(t, f.memory.Sessions().List())
}

func (f fixture) deactivate(t *testing.T, id string) {
	t.Helper()
	_, err := f.memory.Change(t.Context(), id, func(a *agent.Agent) ([]contract.Event, error) {
		a.IsActive = false
		return nil, nil
	})
	require.NoError(t, err)
}

func TestMeAndUpdate(t *testing.T) {
	t.Parallel()
	f := newFixture()
	a := f.register(t, "asha@example.com")
	ctx := identity.With(t.Context(), identity.Caller{AgentID: a.ID, Role: a.Role})
	got, err := f.Me(ctx, agent.MeRequest{})
	require.NoError(t, err)
	require.Equal(t, a, got)

	got, err = f.Update(ctx, agent.UpdateRequest{FullName: " Asha Iyer "})
	require.NoError(t, err)
	require.Equal(t, "Asha Iyer", got.FullName)
	require.EqualValues(t, 2, got.Version)
	again, err := f.Update(ctx, agent.UpdateRequest{FullName: "Asha Iyer"})
	require.NoError(t, err)
	require.Equal(t, got, again, "the same name changes nothing")

	_, err = f.Update(ctx, agent.UpdateRequest{FullName: "  "})
	require.Equal(t, "string_too_short", fault.Of(err).Fields[0].Type)

	events := f.memory.Events()
	require.Len(t, events, 2)
	updated, err := contract.AgentUpdated.Decode(events[1])
	require.NoError(t, err)
	require.Equal(t, "Asha Iyer", updated.Data.FullName)
	require.EqualValues(t, 2, updated.Data.Version)
}

func TestTokensThatOutliveTheirAgentAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture()
	a := f.register(t, "asha@example.com")
	f.deactivate(t, a.ID)
	for name, id := range map[string]string{"inactive": a.ID, "gone": contract.NewID()} {
		ctx := identity.With(t.Context(), identity.Caller{AgentID: id})
		_, err := f.Me(ctx, agent.MeRequest{})
		require.Equal(t, fault.Unauthenticated, fault.KindOf(err), name)
		_, err = f.Update(ctx, agent.UpdateRequest{FullName: "New"})
		require.Equal(t, fault.Unauthenticated, fault.KindOf(err), name)
	}
	_, err := f.Me(t.Context(), agent.MeRequest{})
	require.Equal(t, fault.Unauthenticated, fault.KindOf(err), "nobody")
	_, err = f.Update(t.Context(), agent.UpdateRequest{FullName: "New"})
	require.Equal(t, fault.Unauthenticated, fault.KindOf(err), "nobody")
}
