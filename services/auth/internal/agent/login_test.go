package agent_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

const day = 24 * time.Hour

func (f fixture) deactivate(t *testing.T, id string) {
	t.Helper()
	_, err := f.Agents.Change(t.Context(), id, func(a *agent.Agent) ([]event.Event, error) {
		a.IsActive = false
		return nil, nil
	})
	require.NoError(t, err)
}

func TestLogin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.register(t, "asha@example.com")
	ctx := agent.WithDevice(t.Context(), agent.Device{UserAgent: strings.Repeat("é", 300) + "\xff", IP: "203.0.113.7"})
	got, err := f.Login(ctx, agent.LoginRequest{Username: "Asha@Example.com ", Password: password})
	require.NoError(t, err)

	sessions := f.sessions(t, a)
	require.Len(t, sessions, 1)
	s := sessions[0]
	require.Equal(t, agent.Session{
		ID: s.ID, AgentID: a.ID, CreatedAt: now, LastUsedAt: now, UserAgent: strings.Repeat("é", 200), IP: "203.0.113.7", FamilyHash: s.FamilyHash, RefreshHash: s.RefreshHash, Owner: a,
	}, s)
	require.Len(t, s.FamilyHash, 32)
	require.Len(t, s.RefreshHash, 32)
	require.Equal(t, agent.AccessToken{AccessToken: a.ID + " " + s.ID + " admin", TokenType: "bearer", ExpiresIn: 3600, RefreshToken: got.RefreshToken}, got)
	require.True(t, strings.HasPrefix(got.RefreshToken, s.ID+"."))
	require.Len(t, got.RefreshToken, 36+1+64)
}

func TestFailedLoginsAreAllAlike(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	asha := f.register(t, "asha@example.com")
	ben := f.register(t, "ben@example.com")
	f.deactivate(t, ben.ID)

	var answers []*fault.Error
	for _, r := range []agent.LoginRequest{
		{Username: "asha@example.com", Password: "wrong"},
		{Username: "nobody@example.com", Password: password},
		{Username: "ben@example.com", Password: password},
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
	require.Empty(t, append(f.sessions(t, asha), f.sessions(t, ben)...))
}

func TestFailedLoginsDelayTheNext(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.register(t, "asha@example.com")
	f.register(t, "ben@example.com")
	try := func(email, password, ip string) *fault.Error {
		_, err := f.Login(from(t, ip), agent.LoginRequest{Username: email, Password: password})
		if err == nil {
			return nil
		}
		return fault.Of(err)
	}
	for name, c := range map[string]struct {
		email string
		ips   []string // of the attempts
	}{
		"an account":    {"asha@example.com", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"}},
		"no account":    {"nobody@example.com", []string{"192.0.3.1", "192.0.3.2", "192.0.3.3", "192.0.3.4", "192.0.3.5", "192.0.3.6"}},
		"IPv6 networks": {"", []string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5", "2001:db8::6"}},
	} {
		for i, ip := range c.ips {
			email := c.email
			if email == "" {
				email = string(rune('a'+i)) + "@example.com"
			}
			require.Equal(t, "invalid_credentials", try(email, "wrong", ip).Code, "%s %d", name, i)
		}
	}
	for i := range 20 { // an address has more wrong passwords before it waits
		require.Equal(t, "invalid_credentials", try(fmt.Sprintf("guess%d@example.com", i), "wrong", "2001:db8::1").Code)
	}
	for _, refused := range []*fault.Error{
		try("ASHA@example.com", password, "198.51.100.1"),
		try("nobody@example.com", password, "198.51.100.1"),
		try("ben@example.com", password, "2001:db8::7"),
	} {
		require.Equal(t, fault.Limited, refused.Kind)
		require.Equal(t, "too_many_attempts", refused.Code)
		require.Equal(t, 2*time.Second, refused.RetryAfter)
	}
	require.Nil(t, try("ben@example.com", password, "2001:db8:0:1::7"), "another network")
	f.clock.Advance(1500 * time.Millisecond)
	require.Equal(t, time.Second, try("asha@example.com", password, "198.51.100.1").RetryAfter, "whole seconds")
	f.clock.Advance(500 * time.Millisecond)
	require.Nil(t, try("asha@example.com", password, "198.51.100.1"))
	require.Equal(t, "invalid_credentials", try("asha@example.com", "wrong", "198.51.100.1").Code, "the count of the account starts again")
	require.Nil(t, try("asha@example.com", password, "198.51.100.1"))
}

// The owner waited for up to 15 min after wrong passwords of a stranger.
func TestAStrangerCannotLockTheOwnerOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.register(t, "asha@example.com")
	f.login(t, "asha@example.com") // from 203.0.113.7
	try := func(password, ip string) *fault.Error {
		_, err := f.Login(from(t, ip), agent.LoginRequest{Username: "asha@example.com", Password: password})
		if err == nil {
			return nil
		}
		return fault.Of(err)
	}
	for wait := time.Duration(0); wait < 900*time.Second; {
		f.clock.Advance(wait)
		wait = try("wrong", "198.51.100.1").RetryAfter
	}
	require.Equal(t, 900*time.Second, try("wrong", "198.51.100.200").RetryAfter, "the network of the stranger waits for long")
	require.Nil(t, try(password, "203.0.113.8"), "the owner's network has logged in before")
	f.clock.Advance(2 * time.Second)
	require.Equal(t, "invalid_credentials", try("wrong", "198.51.101.1").Code, "another network of the stranger")
	require.Equal(t, 2*time.Second, try(password, "192.0.2.9").RetryAfter, "the owner on a journey")
	f.clock.Advance(2 * time.Second)
	require.Nil(t, try(password, "192.0.2.9"))
}

// Somebody in the same office guesses passwords of accounts, none of which may exist. The owner waited for up to 15 min.
func TestASharedAddressCannotLockTheOwnerOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const office = "203.0.113.7"
	f.register(t, "asha@example.com")
	f.login(t, "asha@example.com") // from the office
	f.register(t, "ben@example.com")
	try := func(email, password string) *fault.Error {
		_, err := f.Login(from(t, office), agent.LoginRequest{Username: email, Password: password})
		if err == nil {
			return nil
		}
		return fault.Of(err)
	}
	guess := func() (wait time.Duration) {
		for i := range 100 { // of the accounts, each is guessed once
			wait = max(wait, try(fmt.Sprintf("nobody%d-%d@example.com", i, f.clock.Now().Unix()), "wrong").RetryAfter)
		}
		return wait
	}
	for wait := guess(); wait < time.Minute; wait = guess() {
		f.clock.Advance(wait)
	}
	require.Nil(t, try("asha@example.com", password), "the account has been used here")
	require.Equal(t, "invalid_credentials", try("asha@example.com", "wrong").Code)
	require.Nil(t, try("asha@example.com", password))

	require.Equal(t, time.Minute, try("ben@example.com", password).RetryAfter, "the longest wait of an account that is new here")
	f.clock.Advance(time.Minute)
	require.Nil(t, try("ben@example.com", password))
	require.Equal(t, "invalid_credentials", try("new@example.com", "wrong").Code, "a success does not delay the next at the address")
	require.Nil(t, try("ben@example.com", password), "nor itself")

	f.clock.Advance(2 * time.Minute)
	for range 6 {
		require.Equal(t, "invalid_credentials", try("ben@example.com", "wrong").Code)
	}
	require.Equal(t, 2*time.Second, try("ben@example.com", password).RetryAfter, "guesses of the account itself in its network still count")
}

func TestAStrangerCannotEndASession(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.register(t, "asha@example.com")
	before := f.login(t, "asha@example.com")
	for range 20 {
		_, _ = f.Login(from(t, "198.51.100.1"), agent.LoginRequest{Username: "asha@example.com", Password: "wrong"})
	}
	_, err := f.Login(from(t, "192.0.2.1"), agent.LoginRequest{Username: "asha@example.com", Password: password})
	require.Equal(t, fault.Limited, fault.KindOf(err))
	require.Equal(t, 2*time.Second, fault.Of(err).RetryAfter, "in another network")
	f.login(t, "asha@example.com") // in a known one

	for range 20 {
		_, _ = f.Login(from(t, "198.51.100.1"), agent.LoginRequest{Username: "asha@example.com", Password: "wrong"})
	}
	ctx := f.mustAs(t, before.AccessToken)
	_, err = f.Me(ctx, agent.MeRequest{})
	require.NoError(t, err)
	_, err = f.Refresh(t.Context(), agent.RefreshRequest{RefreshToken: before.RefreshToken})
	require.NoError(t, err)
	_, err = f.ChangePassword(ctx, agent.ChangePasswordRequest{Current: password, New: "violet-heron"})
	require.NoError(t, err, "counted apart from the login")
}

func TestOldHashesAreReplacedAtTheLogin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.register(t, "asha@example.com")
	_, err := f.Agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) {
		a.PasswordHash = "old hash of tangerine-otter"
		return nil, nil
	})
	require.NoError(t, err)
	_, err = f.Login(t.Context(), agent.LoginRequest{Username: "asha@example.com", Password: "wrong"})
	require.Error(t, err)
	unchanged, err := f.Agents.Find(t.Context(), a.ID)
	require.NoError(t, err)
	require.Equal(t, "old hash of tangerine-otter", unchanged.PasswordHash)

	f.login(t, "asha@example.com")
	got, err := f.Agents.Find(t.Context(), a.ID)
	require.NoError(t, err)
	require.Equal(t, a, got, "only the hash changed, without an event")
	require.Len(t, f.events(t), 1)
}

// changing runs while during the verification of a password.
type changing struct {
	*plain
	while func()
}

func (c changing) Verify(ctx context.Context, hash, password string) (bool, error) {
	c.while()
	return c.plain.Verify(ctx, hash, password)
}

func TestAChangeDuringALoginRefusesIt(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*agent.Agent){
		"deactivated":      func(a *agent.Agent) { a.IsActive = false },
		"deleted":          func(a *agent.Agent) { a.IsActive, a.DeletedAt = false, &now },
		"another password": func(a *agent.Agent) { a.PasswordHash, a.PasswordSetAt = "hash of other", now.Add(time.Second) },
	} {
		for _, hash := range []string{"hash of ", "old hash of "} { // the login replaces an old one
			t.Run(name+", "+hash, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				f.register(t, "admin@example.com")
				a := f.register(t, "asha@example.com")
				alter := func(change func(*agent.Agent)) {
					_, err := f.Agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) { change(a); return nil, nil })
					require.NoError(t, err)
				}
				alter(func(a *agent.Agent) { a.PasswordHash = hash + password })
				f.Passwords = changing{f.passwords, func() { alter(change) }}
				_, err := f.Login(t.Context(), agent.LoginRequest{Username: "asha@example.com", Password: password})
				require.Equal(t, "invalid_credentials", fault.Of(err).Code)
				require.Empty(t, f.sessions(t, a))
			})
		}
	}
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.register(t, "asha@example.com")
	phone, web := f.login(t, "asha@example.com"), f.login(t, "asha@example.com")
	ctx := f.mustAs(t, web.AccessToken)
	change := func(old, fresh string) *fault.Error {
		_, err := f.ChangePassword(ctx, agent.ChangePasswordRequest{Current: old, New: fresh})
		if err == nil {
			return nil
		}
		return fault.Of(err)
	}
	require.Equal(t, "wrong_password", change("wrong", "violet-heron").Code)
	for fresh, want := range map[string]string{"short": "string_too_short", "password": "password_common", strings.Repeat("x", 129): "string_too_long"} {
		wrong := change(password, fresh)
		require.Equal(t, fault.Field{Type: want, Loc: []any{"body", "new_password"}, Msg: wrong.Fields[0].Msg}, wrong.Fields[0])
	}
	f.clock.Advance(time.Minute)
	require.Nil(t, change(password, "violet-heron"))
	_, err := f.as(t, phone.AccessToken)
	require.Equal(t, "session_ended", fault.Of(err).Code)
	f.mustAs(t, web.AccessToken)
	require.Equal(t, []string{"password_changed"}, f.ends(t))
	got, err := f.Agents.Find(t.Context(), a.ID)
	require.NoError(t, err)
	require.Equal(t, a.Version, got.Version, "no other service sees it")
	require.Equal(t, now.Add(time.Minute), got.PasswordSetAt)
	_, err = f.Login(t.Context(), agent.LoginRequest{Username: "asha@example.com", Password: password})
	require.Equal(t, "invalid_credentials", fault.Of(err).Code)
	_, err = f.Login(t.Context(), agent.LoginRequest{Username: "asha@example.com", Password: "violet-heron"})
	require.NoError(t, err)

	for range 6 {
		require.Equal(t, "wrong_password", change("wrong", "violet-herons").Code)
	}
	require.Equal(t, "too_many_attempts", change("violet-heron", "violet-herons").Code)
}
