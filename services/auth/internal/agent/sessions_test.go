package agent_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

func (f fixture) refresh(t *testing.T, token string) (agent.AccessToken, string) {
	t.Helper()
	got, err := f.Refresh(from(t, "192.0.2.50"), agent.RefreshRequest{RefreshToken: token})
	if err != nil {
		require.Equal(t, fault.Unauthenticated, fault.KindOf(err))
		return agent.AccessToken{}, fault.Of(err).Code
	}
	return got, ""
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.register(t, "asha@example.com")
	first := f.login(t, "asha@example.com")
	f.clock.Advance(time.Hour)
	second, code := f.refresh(t, first.RefreshToken)
	require.Empty(t, code)
	require.NotEqual(t, first.RefreshToken, second.RefreshToken)
	require.Equal(t, first.AccessToken, second.AccessToken, "of the same session")
	require.Equal(t, 3600, second.ExpiresIn)
	session := f.sessions(t, a)[0]
	require.Equal(t, now.Add(time.Hour), session.LastUsedAt)
	require.Equal(t, "192.0.2.50", session.IP)
	for range 3 {
		next, code := f.refresh(t, second.RefreshToken)
		require.Empty(t, code)
		second = next
	}
	require.Len(t, f.sessions(t, a), 1)
	require.Len(t, f.events(t), 1, "a renewal has no event")
}

func TestALostAnswerGivesTheSameSuccessor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.register(t, "asha@example.com")
	first := f.login(t, "asha@example.com").RefreshToken
	second, _ := f.refresh(t, first)
	for _, wait := range []time.Duration{0, 15 * time.Second, 15 * time.Second} {
		f.clock.Advance(wait)
		again, code := f.refresh(t, first)
		require.Empty(t, code)
		require.Equal(t, second.RefreshToken, again.RefreshToken)
	}
	third, code := f.refresh(t, second.RefreshToken)
	require.Empty(t, code)
	_, code = f.refresh(t, third.RefreshToken)
	require.Empty(t, code)
	require.Len(t, f.sessions(t, a), 1)
}

func TestAStolenTokenEndsTheSession(t *testing.T) {
	t.Parallel()
	for name, steal := range map[string]func(t *testing.T, f fixture, first string) (stolen, newest string){
		"after the grace": func(t *testing.T, f fixture, first string) (string, string) {
			t.Helper()
			second, _ := f.refresh(t, first)
			f.clock.Advance(30*time.Second + time.Microsecond)
			return first, second.RefreshToken
		},
		"the one before the predecessor": func(t *testing.T, f fixture, first string) (string, string) {
			t.Helper()
			second, _ := f.refresh(t, first)
			third, _ := f.refresh(t, second.RefreshToken)
			return first, third.RefreshToken
		},
		"one that was never issued, by who knows the family": func(_ *testing.T, _ fixture, first string) (string, string) {
			return first[:len(first)-10] + "AAAAAAAAAA", first
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			a := f.register(t, "asha@example.com")
			other := f.login(t, "asha@example.com")
			login := f.login(t, "asha@example.com")
			stolen, newest := steal(t, f, login.RefreshToken)
			_, code := f.refresh(t, stolen)
			require.Equal(t, "invalid_refresh_token", code)
			_, code = f.refresh(t, newest)
			require.Equal(t, "invalid_refresh_token", code, "the owner's too")
			_, err := f.as(t, login.AccessToken)
			require.Equal(t, "session_ended", fault.Of(err).Code)
			require.Equal(t, []string{"refresh_reused"}, f.ends(t))
			require.Len(t, f.sessions(t, a), 1)
			_, code = f.refresh(t, other.RefreshToken)
			require.Empty(t, code, "other sessions go on")
		})
	}
}

func TestInvalidRefreshTokensChangeNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.register(t, "asha@example.com")
	login := f.login(t, "asha@example.com")
	id, rest, _ := strings.Cut(login.RefreshToken, ".")
	for name, text := range map[string]string{
		"nothing":                    "",
		"an access token":            login.AccessToken,
		"only the session":           id,
		"of a session with no proof": id + "." + strings.Repeat("A", 64),
		"of no session":              event.NewID() + "." + rest,
		"cut":                        login.RefreshToken[:len(login.RefreshToken)-1],
		"longer":                     login.RefreshToken + "A",
		"padded":                     login.RefreshToken + "=",
		"a line feed in it":          login.RefreshToken[:50] + "\n" + login.RefreshToken[50:],
		"no session id":              "x." + rest,
		"its session in capitals":    strings.ToUpper(id) + "." + rest,
	} {
		_, code := f.refresh(t, text)
		require.Equal(t, "invalid_refresh_token", code, name)
	}
	require.Len(t, f.sessions(t, a), 1)
	require.Empty(t, f.ends(t))
	_, code := f.refresh(t, login.RefreshToken)
	require.Empty(t, code)
}

func TestSessionsExpire(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.register(t, "asha@example.com")
	idle, busy := f.login(t, "asha@example.com").RefreshToken, f.login(t, "asha@example.com").RefreshToken
	renew := func() string {
		got, code := f.refresh(t, busy)
		busy = got.RefreshToken
		return code
	}
	f.clock.Advance(14*day - time.Second)
	require.Empty(t, renew())
	f.clock.Advance(time.Second)
	_, code := f.refresh(t, idle)
	require.Equal(t, "invalid_refresh_token", code, "14 days idle")
	f.clock.Advance(13 * day)
	require.Empty(t, renew())
	f.clock.Advance(3*day - time.Second)
	require.Empty(t, renew())
	f.clock.Advance(time.Second)
	require.Equal(t, "invalid_refresh_token", renew(), "30 days old")
	require.Empty(t, f.ends(t), "nothing was stolen")
}

func TestRefreshOfAnInactiveAgent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.register(t, "asha@example.com")
	login := f.login(t, "asha@example.com")
	f.register(t, "ben@example.com")
	_, err := f.Agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]event.Event, error) { a.Role = identity.Admin; return nil, nil })
	require.NoError(t, err)
	_, err = f.CreateAdmin(t.Context(), agent.CreateAdminRequest{Email: "ben@example.com"})
	require.NoError(t, err)
	f.deactivate(t, a.ID)
	_, code := f.refresh(t, login.RefreshToken)
	require.Equal(t, "invalid_refresh_token", code)
}

func TestManyRenewalsAtOnceGetOneSuccessor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.register(t, "asha@example.com")
	first := f.login(t, "asha@example.com").RefreshToken
	var mu sync.Mutex
	successors := map[string]bool{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			got, err := f.Refresh(t.Context(), agent.RefreshRequest{RefreshToken: first})
			mu.Lock()
			defer mu.Unlock()
			successors[got.RefreshToken] = err == nil
		})
	}
	all.Wait()
	require.Len(t, successors, 1)
	require.NotContains(t, successors, "")
	require.Len(t, f.sessions(t, a), 1)
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	a := f.register(t, "asha@example.com")
	b := f.register(t, "ben@example.com")
	f.login(t, "asha@example.com")
	session := f.sessions(t, a)[0].ID
	caller := identity.Caller{AgentID: a.ID, SessionID: session, TokenID: "jti", Role: identity.Agent, Token: "token"}
	got, err := f.Admit(t.Context(), caller)
	require.NoError(t, err)
	caller.Role = identity.Admin
	require.Equal(t, caller, got, "the role is that of now")
	for name, c := range map[string]identity.Caller{
		"no session":        {AgentID: a.ID, SessionID: event.NewID()},
		"another's session": {AgentID: b.ID, SessionID: session},
	} {
		_, err := f.Admit(t.Context(), c)
		require.Equal(t, fault.Unauthenticated, fault.KindOf(err), name)
		require.Equal(t, "session_ended", fault.Of(err).Code, name)
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.register(t, "asha@example.com")
	phone, web := f.login(t, "asha@example.com"), f.login(t, "asha@example.com")
	ctx := f.mustAs(t, phone.AccessToken)
	for range 2 { // the second one came at the same time
		_, err := f.Logout(ctx, agent.LogoutRequest{})
		require.NoError(t, err)
	}
	_, err := f.as(t, phone.AccessToken)
	require.Equal(t, "session_ended", fault.Of(err).Code)
	_, code := f.refresh(t, phone.RefreshToken)
	require.Equal(t, "invalid_refresh_token", code)
	f.mustAs(t, web.AccessToken)
	require.Equal(t, []string{"logout"}, f.ends(t))
}

func TestSessionsAreTheCallersOwn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	asha, ben := f.register(t, "asha@example.com"), f.register(t, "ben@example.com")
	admin, phone, web := f.login(t, "asha@example.com"), f.login(t, "ben@example.com"), f.login(t, "ben@example.com")
	ctx := f.mustAs(t, web.AccessToken)
	listed, err := f.ListSessions(ctx, agent.ListSessionsRequest{Request: page.All()})
	require.NoError(t, err)
	current := map[string]bool{}
	for _, s := range listed.Items {
		require.Contains(t, f.sessions(t, ben), s.Session)
		current[s.ID] = s.Current
	}

	remove := func(token, id string) error {
		_, err := f.RemoveSession(f.mustAs(t, token), agent.RemoveSessionRequest{ID: id})
		return err
	}
	session := func(a agent.AccessToken) string { return strings.Split(a.AccessToken, " ")[1] }
	require.Equal(t, map[string]bool{session(web): true, session(phone): false}, current)
	require.Equal(t, fault.Forbidden, fault.KindOf(remove(web.AccessToken, session(admin))))
	require.Equal(t, fault.NotFound, fault.KindOf(remove(web.AccessToken, event.NewID())))
	require.NoError(t, remove(web.AccessToken, session(phone)))
	_, err = f.as(t, phone.AccessToken)
	require.Error(t, err)
	require.NoError(t, remove(admin.AccessToken, session(web)), "an admin may")
	require.Equal(t, []string{"removed", "removed"}, f.ends(t))
	require.Len(t, f.sessions(t, asha), 1)
}
