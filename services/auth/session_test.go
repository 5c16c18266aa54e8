package auth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/service/servicetest"
)

func TestRenewalsAtTwoReplicasGetOneSuccessor(t *testing.T) {
	t.Parallel()
	one := start(t)
	replicas := []app{one, one.replica()}
	one.register("asha@example.com")
	first := one.login("asha@example.com", "tangerine-otter").Text("refresh_token")
	answers := make([]servicetest.Answer, 8)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = replicas[i%2].refresh(first) })
	}
	all.Wait()
	for _, a := range answers {
		a.Is(200)
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		require.Equal(t, answers[0].Text("refresh_token"), a.Text("refresh_token"))
		one.me(a.Text("access_token")).Is(200)
	}
	second := replicas[1].refresh(answers[0].Text("refresh_token")).Is(200)

	one.refresh(first).Fails(401, "invalid_refresh_token") // stolen
	replicas[1].refresh(second.Text("refresh_token")).Is(401)
	replicas[1].me(second.Text("access_token")).Fails(401, "session_ended")
}

func TestOnlyHashesOfRefreshTokensAreStored(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register("asha@example.com")
	token := s.login("asha@example.com", "tangerine-otter").Text("refresh_token")
	renewed := s.refresh(token).Text("refresh_token")
	row := value[string](s, `select row_to_json(s)::text || coalesce((select string_agg(encode(data, 'escape'), '') from outbox), '') from sessions s`)
	for _, secret := range []string{token, renewed} {
		_, rest, _ := strings.Cut(secret, ".")
		require.NotContains(t, row, rest[:20])
	}
}

// Every operation that needs a token refuses a session that has ended, before it reads the body.
func TestEveryOperationChecksTheSession(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register("asha@example.com")
	bearer := s.token("asha@example.com")
	key := []string{"Idempotency-Key", "the first one"}
	created := `{"email":"ben@example.com","full_name":"Ben","password":"violet-heron"}`
	s.send(bearer, "POST", "/agents", created, key...).Is(201)
	s.send(bearer, "POST", "/auth/logout", "").Is(204)
	s.send(bearer, "POST", "/agents", created, key...).Fails(401, "session_ended") // and not the stored response

	raw, err := api.Document("auth")
	require.NoError(t, err)
	var document struct {
		Paths map[string]map[string]struct {
			Access string `json:"x-access"`
		}
	}
	require.NoError(t, json.Unmarshal(raw, &document))
	checked := 0
	for path, operations := range document.Paths {
		for method, op := range operations {
			if op.Access == "anyone" {
				continue
			}
			a := s.send(bearer, strings.ToUpper(method), strings.ReplaceAll(path, "{id}", event.NewID()), "not even JSON")
			require.Equal(t, http.StatusUnauthorized, a.Status, "%s %s", method, path)
			a.Fails(401, "session_ended")
			checked++
		}
	}
	require.Equal(t, 11, checked)
}

func TestAdminsChangeAndDeleteAgents(t *testing.T) {
	t.Parallel()
	s := start(t, closed)
	admin := s.admin()
	created := s.send(admin, "POST", "/agents", `{"email":"Ben@example.com","full_name":"Ben"}`).Is(201)
	id, password := created.Text("id"), created.Text("password")
	login := s.login("ben@example.com", password).Is(200)
	bearer := login.Text("access_token")
	s.me(bearer).Is(200)

	update := func(body string) servicetest.Answer { return s.send(admin, "PATCH", "/agents/"+id, body) }
	manages := func(bearer string) servicetest.Answer {
		return s.send(bearer, "PATCH", "/agents/"+id, `{"full_name":"Ben"}`)
	}
	require.Equal(t, false, update(`{"is_active":false}`).Object()["is_active"])
	s.me(bearer).Fails(401, "session_ended")
	s.refresh(login.Text("refresh_token")).Is(401)
	s.login("ben@example.com", password).Fails(401, "invalid_credentials")
	update(`{"is_active":true,"password":"violet-heron","role":"admin"}`).Is(200)
	bearer = s.login("ben@example.com", "violet-heron").Text("access_token")
	manages(bearer).Is(200)
	update(`{"role":"agent"}`).Is(200)
	manages(bearer).Fails(401, "session_ended") // the token still says admin

	login = s.login("ben@example.com", "violet-heron").Is(200)
	manages(login.Text("access_token")).Fails(403, "admin_only")
	s.send(admin, "DELETE", "/agents/"+id, "").Is(204)
	s.me(login.Text("access_token")).Fails(401, "session_ended")
	s.refresh(login.Text("refresh_token")).Fails(401, "invalid_refresh_token")
	s.login("ben@example.com", "violet-heron").Fails(401, "invalid_credentials")
	s.send(admin, "GET", "/agents/"+id, "").Fails(404, "agent_not_found")
	update(`{"is_active":true}`).Fails(404, "agent_not_found")
	s.send(admin, "DELETE", "/agents/"+id, "").Fails(404, "agent_not_found")
	require.NotContains(t, s.send(admin, "GET", "/agents", "").IDs(), id)

	var published, ended []string
	for _, m := range bustest.Read(t, s.cfg.Kafka.Brokers, events.AgentsTopic, 9) {
		var end events.SessionEnd // an agent's payload has agent_id too
		require.NoError(t, json.Unmarshal(m.Value, &end))
		for _, h := range m.Headers {
			switch {
			case h.Key != "ce_type" || end.AgentID != id:
			case string(m.Key) == id:
				published = append(published, string(h.Value))
			default:
				require.Equal(t, end.SessionID, string(m.Key), "a key of its own: compaction keeps the agent's newest state")
				ended = append(ended, string(h.Value)+" "+end.Reason)
			}
		}
	}
	require.Equal(t, []string{"agent.registered", "agent.deactivated", "agent.updated", "agent.updated", "agent.deactivated"}, published)
	require.ElementsMatch(t, []string{"session.revoked agent_deactivated", "session.revoked role_changed", "session.revoked agent_deactivated"}, ended)
}

func TestGeneratedPasswordsAreShownOnce(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register("asha@example.com")
	admin := s.token("asha@example.com")
	create := func(body string) servicetest.Answer {
		return s.send(admin, "POST", "/agents", body, "Idempotency-Key", "one")
	}
	first := create(`{"email":"ben@example.com","name":"Ben"}`).Is(201).Object()
	again := create(`{"email":"ben@example.com","name":"Ben"}`).Is(201).Object()
	password := first["password"].(string)
	require.Len(t, password, 26)
	s.login("ben@example.com", password).Is(200)
	delete(first, "password")
	require.Equal(t, first, again)
	create(`{"email":"cy@example.com","name":"Cy"}`).Fails(409, "idempotency_key_reused")
	stored := value[string](s, `select encode(answer::text::bytea, 'escape') from idempotency`)
	require.Contains(t, stored, "ben@example.com")
	require.NotContains(t, stored, password)
	require.NotContains(t, s.send(admin, "GET", "/agents/"+first["id"].(string), "").Body, "password")
}

func TestListsOfAgentsArePaged(t *testing.T) {
	t.Parallel()
	s := start(t)
	ids := []string{s.register("asha@example.com").Text("id")}
	admin := s.token("asha@example.com")
	for i := range 4 {
		created := s.send(admin, "POST", "/agents", fmt.Sprintf(`{"email":"rep%d@example.com","name":"Rep","password":"violet-heron"}`, i))
		ids = append([]string{created.Text("id")}, ids...)
	}
	var listed []string
	rep := s.login("rep0@example.com", "violet-heron").Text("access_token")
	for path := "/agents?limit=2&q=example"; path != ""; {
		page := s.send(rep, "GET", path, "").Is(200)
		listed = append(listed, page.IDs()...)
		path = page.Next()
	}
	require.Equal(t, ids, listed)
	tag := s.send(admin, "GET", "/agents?limit=1", "").Header.Get("ETag")
	s.send(admin, "GET", "/agents?limit=1", "", "If-None-Match", tag).Is(304)
}

func TestETags(t *testing.T) {
	t.Parallel()
	s := start(t)
	id := s.register("asha@example.com").Text("id")
	s.register("ben@example.com")
	asha, ben := s.token("asha@example.com"), s.token("ben@example.com")
	agent := func(tag string) servicetest.Answer {
		return s.send(ben, "GET", "/agents/"+id, "", "If-None-Match", tag)
	}
	tag := agent("").Is(200).Header.Get("ETag")
	agent(tag).Is(304)
	mine := s.me(asha).Header.Get("ETag")
	s.send(ben, "GET", "/auth/me", "", "If-None-Match", mine).Is(200) // the account of another agent with the same version
	s.send(asha, "PATCH", "/auth/me", `{"name":"Asha Iyer"}`).Is(200)
	require.Equal(t, "Asha Iyer", agent(tag).Is(200).Text("full_name"))
	s.send(asha, "GET", "/auth/me", "", "If-None-Match", mine).Is(200)
}

func TestPasswordChangeEndsOtherSessions(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register("asha@example.com")
	phone, web := s.token("asha@example.com"), s.token("asha@example.com")
	require.Len(t, s.send(web, "GET", "/auth/sessions", "").IDs(), 2)
	s.send(web, "POST", "/auth/me/password", `{"current_password":"tangerine-otter","new_password":"violet-heron"}`).Is(204)
	s.me(phone).Is(401)
	s.me(web).Is(200)
	s.login("asha@example.com", "tangerine-otter").Is(401)
	s.login("asha@example.com", "violet-heron").Is(200)
}

// postpone moves failed logins a minute into the future: on a busy machine a delay of 2 s ends before the next login arrives.
func (a app) postpone() {
	a.T.Helper()
	_, err := a.DB.Conn(a.T.Context()).Exec(a.T.Context(), `update login_failures set last_at = now() + interval '1 minute' where failures >= 6`)
	require.NoError(a.T, err)
}

func TestFailedLoginsAreCountedByAllReplicas(t *testing.T) {
	t.Parallel()
	one := start(t)
	replicas := []app{one, one.replica()}
	one.register("asha@example.com")
	session := one.login("asha@example.com", "tangerine-otter")
	for i, email := range []string{"asha@example.com", "nobody@example.com"} {
		for n := range 6 {
			s := replicas[n%2]
			s.ip = fmt.Sprintf("198.51.100.%d", 10*i+n)
			s.login(email, "wrong").Is(401)
		}
		one.postpone()
		away := one
		away.ip = fmt.Sprintf("192.0.2.%d", i) // in another network
		a := away.login(email, "tangerine-otter").Fails(429, "too_many_attempts")
		wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
		require.NoError(t, err)
		require.LessOrEqual(t, wait, 63)
		require.Positive(t, wait)
	}
	one.login("asha@example.com", "tangerine-otter").Is(200) // in the network of the first login
	one.me(session.Text("access_token")).Is(200)
	replicas[1].refresh(session.Text("refresh_token")).Is(200)

	stranger := one
	stranger.ip = "2001:db8::1"
	for n := range 6 {
		stranger.login(fmt.Sprintf("guess%d@example.com", n), "wrong").Is(401)
	}
	one.exec(`update login_failures set failures = failures + 20 where failures >= 6`) // an address has more of them before it waits
	one.postpone()
	stranger.ip = "2001:db8::2" // of the same subscriber
	stranger.login("fresh@example.com", "wrong").Is(429)
	require.False(t, value[bool](one, `select exists (select from login_failures where encode(key, 'escape') like '%example%' or encode(key, 'escape') like '%198.51%')`))
}

func TestAccountsOfTheFormerSystem(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register("asha@example.com")
	hash, err := bcrypt.GenerateFromPassword([]byte("from the old days"), bcrypt.DefaultCost)
	require.NoError(t, err)
	value[string](s, `update agents set password_hash = $1 returning email`, strings.Replace(string(hash), "$2a$", "$2b$", 1))

	for _, email := range []string{"asha@example.com", "nobody@example.com"} {
		took := clock.Stopwatch()
		s.login(email, "wrong").Is(401)
		require.GreaterOrEqual(t, took(), 400*time.Millisecond, "the time of a failed login hides what kind of hash there is")
	}
	stored := func() string { return value[string](s, `select password_hash from agents`) }
	require.True(t, strings.HasPrefix(stored(), "$2b$"))
	for range 2 {
		s.login("asha@example.com", "from the old days").Is(200)
		require.True(t, strings.HasPrefix(stored(), "$argon2id$v=19$m=19456,t=2,p=1$"))
	}
}
