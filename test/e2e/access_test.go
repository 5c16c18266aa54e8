package e2e

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
)

// endTimeout is how long a token may still be accepted. The promise is a second on an idle machine; a service that missed the
// end of a session would accept the token until its cache entry expires, after a minute.
const endTimeout = 30 * time.Second

// TestEndOfAccess tests what ends the access of an agent, at the gateway and at each service behind it, and what does not.
func TestEndOfAccess(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newServices(t, f, append(f.settings(), "UPSTREAM_PROTOCOL=h2c")...) // the other stacks have HTTP/1.1 between their services
	s.start()
	admin := s.newAgent()
	admin.completed(admin.upload(nil).ID)

	// everywhere are the gateway and the services, with an operation of each.
	everywhere := map[string]string{
		s.url: "/clients", s.unit("auth").url: "/auth/me", s.unit("calls").url: "/calls", s.unit("crm").url: "/clients", s.unit("notify").url: "/webhooks/deliveries",
	}
	statuses := func(a *agent) map[int]int {
		got := map[int]int{}
		for at, path := range everywhere {
			here := a.as(a.t, a.token)
			here.url = at
			got[here.get(path).status]++
		}
		return got
	}
	// ended waits until a token is refused everywhere, and logs how long that took.
	ended := func(t *testing.T, a *agent, how string) {
		t.Helper()
		took := clock.Stopwatch()
		poll(t, endTimeout, "no access after "+how, func() bool { return statuses(a)[http.StatusUnauthorized] == len(everywhere) })
		t.Logf("access ended everywhere %.0f ms after %s", 1000*took().Seconds(), how)
	}
	alive := func(t *testing.T, a *agent, admin bool) {
		t.Helper()
		want := map[int]int{http.StatusOK: 4, http.StatusForbidden: 1} // notify is for admins
		if admin {
			want = map[int]int{http.StatusOK: 5}
		}
		require.Equal(t, want, statuses(a))
	}

	t.Run("logout", func(t *testing.T) {
		one := s.in(t).newAgent()
		other := one.loggedInAgain()
		alive(t, one, false)
		one.post("/auth/logout", nil).must(http.StatusNoContent)
		ended(t, one, "logout")
		alive(t, other, false)
	})
	t.Run("password", func(t *testing.T) {
		one := s.in(t).newAgent()
		other := one.loggedInAgain()
		other.post("/auth/me/password", map[string]any{"current_password": one.password, "new_password": "another " + one.password}).must(http.StatusNoContent)
		ended(t, one, "a new password")
		alive(t, other, false)
	})
	t.Run("deactivation", func(t *testing.T) {
		one := s.in(t).newAgent()
		admin := s.in(t).as(admin)
		id := one.me()
		admin.do(http.MethodPatch, "/agents/"+id, map[string]any{"is_active": false}).must(http.StatusOK)
		ended(t, one, "deactivation")
		admin.do(http.MethodPatch, "/agents/"+id, map[string]any{"is_active": true}).must(http.StatusOK)
		again := one.as(t, "")
		again.login()
		poll(t, jobTimeout, "access again", func() bool { return statuses(again)[http.StatusOK] == 4 })
		require.Equal(t, len(everywhere), statuses(one)[http.StatusUnauthorized], "the old session remains ended")
	})
	t.Run("demotion", func(t *testing.T) {
		one := s.in(t).newAgent()
		admin := s.in(t).as(admin)
		id := one.me()
		admin.do(http.MethodPatch, "/agents/"+id, map[string]any{"role": "admin"}).must(http.StatusOK)
		one.login()
		alive(t, one, true)
		admin.do(http.MethodPatch, "/agents/"+id, map[string]any{"role": "agent"}).must(http.StatusOK)
		ended(t, one, "demotion")
	})
	t.Run("a restart undoes nothing", func(t *testing.T) {
		s := s.in(t)
		one, other := s.newAgent(), s.newAgent()
		one.post("/auth/logout", nil).must(http.StatusNoContent)
		ended(t, one, "logout")
		s.kill("gateway", "calls", "crm", "notify")
		s.start()
		require.Equal(t, len(everywhere), statuses(one)[http.StatusUnauthorized])
		alive(t, other, false)
	})
	t.Run("auth is down", func(t *testing.T) {
		s := s.in(t)
		one, gone := s.newAgent(), s.newAgent()
		gone.post("/auth/logout", nil).must(http.StatusNoContent)
		ended(t, gone, "logout")
		s.kill("auth")
		one.get("/clients").must(http.StatusOK)
		one.get("/calls").must(http.StatusOK)
		require.Equal(t, http.StatusUnauthorized, gone.get("/clients").status)
		for range 8 { // the circuit breaker opens meanwhile
			require.Equal(t, http.StatusServiceUnavailable, one.get("/auth/me").status)
		}
		s.start()
		poll(t, jobTimeout, "auth is found again", func() bool { return one.get("/auth/me").status == http.StatusOK })
	})
	t.Run("another key signs", func(t *testing.T) { s.in(t).rotateKeysUnderLoad() })
}

// rotateKeysUnderLoad rotates the keys while agents log in and send requests. No request is refused.
func (s *stack) rotateKeysUnderLoad() {
	s.t.Helper()
	auth := s.unit("auth")
	var database string
	for _, setting := range auth.environ {
		if url, ok := strings.CutPrefix(setting, "DATABASE_URL="); ok {
			database = url
		}
	}
	conn, err := pgx.Connect(s.t.Context(), database)
	require.NoError(s.t, err)
	defer func() { _ = conn.Close(s.t.Context()) }()
	_, err = conn.Exec(s.t.Context(), `update auth.signing_keys set since = since - interval '1 hour'`) // it has been published for long
	require.NoError(s.t, err)
	kid := func(a *agent) any {
		header, _ := decoded(a.t, a.token)
		return header["kid"]
	}
	before := s.newAgent()
	ctx, stop := context.WithCancel(s.t.Context())
	var load sync.WaitGroup
	for range 3 {
		a := before.as(s.t, before.token)
		load.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond) // as fast as it can, it would take both cores for half a minute
			defer tick.Stop()
			for ctx.Err() == nil {
				a.get("/clients").must(http.StatusOK)
				a.get("/calls").must(http.StatusOK)
				<-tick.C
			}
		})
	}
	code, out, stderr := command(s.t, auth.environ, append(auth.argv[:1:1], "keys", "rotate")...)
	require.Zero(s.t, code, "%s%s", out, stderr)
	after := before.as(s.t, "")
	pollEvery(s.t, time.Second, jobTimeout, "the other key signs", func() bool { // each password costs as much as 1,000 reads
		after.login()
		after.get("/clients").must(http.StatusOK)
		return kid(after) != kid(before)
	})
	stop()
	load.Wait()
	before.get("/clients").must(http.StatusOK)
}
