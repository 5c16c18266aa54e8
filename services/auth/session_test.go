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
	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

func (s service) refresh(t *testing.T, token any) answer {
	t.Helper()
	return s.send(t, "POST", "/auth/refresh", jsonType, fmt.Sprintf(`{"refresh_token":%q}`, token), "")
}

func (s service) me(t *testing.T, bearer any) answer {
	t.Helper()
	return s.send(t, "GET", "/auth/me", "", "", bearer.(string))
}

func TestRenewalsAtTwoReplicasGetOneSuccessor(t *testing.T) {
	t.Parallel()
	database, brokers := pgtest.Schema(t), bustest.Broker(t)
	replicas := []service{replica(t, database, brokers), replica(t, database, brokers)}
	replicas[0].register(t, "asha@example.com")
	first := replicas[0].login(t, "asha@example.com", "tangerine-otter").body["refresh_token"]
	answers := make([]answer, 8)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = replicas[i%2].refresh(t, first) })
	}
	all.Wait()
	for _, a := range answers {
		require.Equal(t, http.StatusOK, a.status, a.text)
		require.Equal(t, "no-store", a.header.Get("Cache-Control"))
		require.Equal(t, answers[0].body["refresh_token"], a.body["refresh_token"])
		require.Equal(t, http.StatusOK, replicas[0].me(t, a.body["access_token"]).status)
	}
	second := replicas[1].refresh(t, answers[0].body["refresh_token"])
	require.Equal(t, http.StatusOK, second.status)

	stolen := replicas[0].refresh(t, first)
	require.Equal(t, http.StatusUnauthorized, stolen.status)
	require.Equal(t, "invalid_refresh_token", stolen.body["code"])
	require.Equal(t, http.StatusUnauthorized, replicas[1].refresh(t, second.body["refresh_token"]).status)
	require.Equal(t, "session_ended", replicas[1].me(t, second.body["access_token"]).body["code"])
}

func TestOnlyHashesOfRefreshTokensAreKept(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register(t, "asha@example.com")
	token := s.login(t, "asha@example.com", "tangerine-otter").body["refresh_token"].(string)
	renewed := s.refresh(t, token).body["refresh_token"].(string)
	var row string
	s.query(t, `select row_to_json(s)::text || coalesce((select string_agg(encode(data, 'escape'), '') from outbox), '') from sessions s`, &row)
	for _, secret := range []string{token, renewed} {
		_, rest, _ := strings.Cut(secret, ".")
		require.NotContains(t, row, rest[:20])
	}
}

// Every operation that is not for anyone refuses a session that has ended, before it reads the body.
func TestEveryOperationAsksForTheSession(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register(t, "asha@example.com")
	bearer := s.token(t, "asha@example.com")
	key := []string{"Idempotency-Key", "the first one"}
	created := `{"email":"ben@example.com","full_name":"Ben","password":"violet-heron"}`
	require.Equal(t, http.StatusCreated, s.send(t, "POST", "/agents", jsonType, created, bearer, key...).status)
	require.Equal(t, http.StatusNoContent, s.send(t, "POST", "/auth/logout", "", "", bearer).status)
	require.Equal(t, "session_ended", s.send(t, "POST", "/agents", jsonType, created, bearer, key...).body["code"], "nor does an earlier answer come again")

	raw, err := api.Document("auth")
	require.NoError(t, err)
	var document struct {
		Paths map[string]map[string]struct {
			Access string `json:"x-access"`
		}
	}
	require.NoError(t, json.Unmarshal(raw, &document))
	asked := 0
	for path, operations := range document.Paths {
		for method, op := range operations {
			if op.Access == "anyone" {
				continue
			}
			a := s.send(t, strings.ToUpper(method), strings.ReplaceAll(path, "{id}", event.NewID()), jsonType, "not even JSON", bearer)
			require.Equal(t, http.StatusUnauthorized, a.status, "%s %s", method, path)
			require.Equal(t, "session_ended", a.body["code"])
			asked++
		}
	}
	require.Equal(t, 10, asked)
}

func TestAdminsShutAgentsOut(t *testing.T) {
	t.Parallel()
	s := start(t, closed)
	admin := s.admin(t)
	created := s.send(t, "POST", "/agents", jsonType, `{"email":"Ben@example.com","full_name":"Ben"}`, admin)
	require.Equal(t, http.StatusCreated, created.status, created.text)
	id, password := created.body["id"].(string), created.body["password"].(string)
	login := s.login(t, "ben@example.com", password)
	require.Equal(t, http.StatusOK, login.status, login.text)
	bearer := login.body["access_token"]
	require.Equal(t, http.StatusOK, s.me(t, bearer).status)

	update := func(body string) answer {
		return s.send(t, "PATCH", "/agents/"+id, jsonType, body, admin)
	}
	require.Equal(t, false, update(`{"is_active":false}`).body["is_active"])
	require.Equal(t, "session_ended", s.me(t, bearer).body["code"])
	require.Equal(t, http.StatusUnauthorized, s.refresh(t, login.body["refresh_token"]).status)
	require.Equal(t, "invalid_credentials", s.login(t, "ben@example.com", password).body["code"])
	require.Equal(t, http.StatusOK, update(`{"is_active":true,"password":"violet-heron","role":"admin"}`).status)
	bearer = s.login(t, "ben@example.com", "violet-heron").body["access_token"]
	require.Equal(t, http.StatusOK, s.send(t, "GET", "/agents", "", "", bearer.(string)).status, "an admin now")
	require.Equal(t, http.StatusOK, update(`{"role":"agent"}`).status)
	require.Equal(t, "session_ended", s.send(t, "GET", "/agents", "", "", bearer.(string)).body["code"], "the token still says admin")

	var told, ended []string
	for _, m := range bustest.Read(t, s.brokers, events.AgentsTopic, 7) {
		var end events.SessionEnd // an agent's payload has agent_id too
		require.NoError(t, json.Unmarshal(m.Value, &end))
		for _, h := range m.Headers {
			switch {
			case h.Key != "ce_type" || end.AgentID != id:
			case string(m.Key) == id:
				told = append(told, string(h.Value))
			default:
				require.Equal(t, end.SessionID, string(m.Key), "a key of its own: compaction keeps the agent's newest state")
				ended = append(ended, string(h.Value)+" "+end.Reason)
			}
		}
	}
	require.Equal(t, []string{"agent.registered", "agent.deactivated", "agent.updated", "agent.updated"}, told)
	require.ElementsMatch(t, []string{"session.revoked agent_deactivated", "session.revoked role_changed"}, ended)
}

func TestPasswordsThatWereMadeAreShownOnce(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register(t, "asha@example.com")
	admin := s.token(t, "asha@example.com")
	create := func(body string) answer {
		return s.send(t, "POST", "/agents", jsonType, body, admin, "Idempotency-Key", "one")
	}
	first, again := create(`{"email":"ben@example.com","name":"Ben"}`), create(`{"email":"ben@example.com","name":"Ben"}`)
	require.Equal(t, http.StatusCreated, first.status)
	require.Equal(t, http.StatusCreated, again.status)
	password := first.body["password"].(string)
	require.Len(t, password, 26)
	require.Equal(t, http.StatusOK, s.login(t, "ben@example.com", password).status)
	delete(first.body, "password")
	require.Equal(t, first.body, again.body)
	require.Equal(t, http.StatusConflict, create(`{"email":"cy@example.com","name":"Cy"}`).status)
	var kept string
	s.query(t, `select encode(answer::text::bytea, 'escape') from idempotency`, &kept)
	require.NotContains(t, kept, password)
	require.NotContains(t, s.send(t, "GET", "/agents/"+first.body["id"].(string), "", "", admin).text, "password")
}

func TestListsOfAgentsArePaged(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register(t, "asha@example.com")
	admin := s.token(t, "asha@example.com")
	for i := range 4 {
		s.send(t, "POST", "/agents", jsonType, fmt.Sprintf(`{"email":"rep%d@example.com","name":"Rep","password":"violet-heron"}`, i), admin)
	}
	var emails []any
	for path := "/agents?limit=2&q=example"; path != ""; {
		page := s.send(t, "GET", path, "", "", admin)
		require.Equal(t, http.StatusOK, page.status, page.text)
		for _, a := range page.list {
			emails = append(emails, a["email"])
		}
		next, _, _ := strings.Cut(strings.TrimPrefix(page.header.Get("Link"), "<"), ">")
		path = next
	}
	require.Equal(t, []any{"rep3@example.com", "rep2@example.com", "rep1@example.com", "rep0@example.com", "asha@example.com"}, emails)
	one := s.send(t, "GET", "/agents?limit=1", "", "", admin)
	tag := one.header.Get("ETag")
	require.Equal(t, http.StatusNotModified, s.send(t, "GET", "/agents?limit=1", "", "", admin, "If-None-Match", tag).status)
}

func TestPasswordChangeEndsOtherSessions(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register(t, "asha@example.com")
	phone, web := s.token(t, "asha@example.com"), s.token(t, "asha@example.com")
	require.Len(t, s.send(t, "GET", "/auth/sessions", "", "", web).list, 2)
	a := s.send(t, "POST", "/auth/me/password", jsonType, `{"current_password":"tangerine-otter","new_password":"violet-heron"}`, web)
	require.Equal(t, http.StatusNoContent, a.status, a.text)
	require.Equal(t, http.StatusUnauthorized, s.me(t, phone).status)
	require.Equal(t, http.StatusOK, s.me(t, web).status)
	require.Equal(t, http.StatusUnauthorized, s.login(t, "asha@example.com", "tangerine-otter").status)
	require.Equal(t, http.StatusOK, s.login(t, "asha@example.com", "violet-heron").status)
}

func TestFailedLoginsAreCountedByAllReplicas(t *testing.T) {
	t.Parallel()
	database, brokers := pgtest.Schema(t), bustest.Broker(t)
	replicas := []service{replica(t, database, brokers), replica(t, database, brokers)}
	replicas[0].register(t, "asha@example.com")
	session := replicas[0].login(t, "asha@example.com", "tangerine-otter")
	for i, email := range []string{"asha@example.com", "nobody@example.com"} {
		for n := range 6 {
			s := replicas[n%2]
			s.ip = fmt.Sprintf("198.51.100.%d", 10*i+n)
			require.Equal(t, http.StatusUnauthorized, s.login(t, email, "wrong").status)
		}
		a := replicas[0].login(t, email, "tangerine-otter")
		require.Equal(t, http.StatusTooManyRequests, a.status, "another address")
		require.Equal(t, "too_many_attempts", a.body["code"])
		wait, err := strconv.Atoi(a.header.Get("Retry-After"))
		require.NoError(t, err)
		require.LessOrEqual(t, wait, 2)
		require.Positive(t, wait)
	}
	require.Equal(t, http.StatusOK, replicas[0].me(t, session.body["access_token"]).status)
	require.Equal(t, http.StatusOK, replicas[1].refresh(t, session.body["refresh_token"]).status)

	stranger := replicas[0]
	stranger.ip = "2001:db8::1"
	for n := range 6 {
		require.Equal(t, http.StatusUnauthorized, stranger.login(t, fmt.Sprintf("guess%d@example.com", n), "wrong").status)
	}
	stranger.ip = "2001:db8::2"
	require.Equal(t, http.StatusTooManyRequests, stranger.login(t, "fresh@example.com", "wrong").status, "one subscriber")
	var personal bool
	replicas[0].query(t, `select exists (select from login_failures where encode(key, 'escape') like '%example%' or encode(key, 'escape') like '%198.51%')`, &personal)
	require.False(t, personal)
}

func TestAccountsOfTheFormerSystem(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register(t, "asha@example.com")
	hash, err := bcrypt.GenerateFromPassword([]byte("from the old days"), bcrypt.DefaultCost)
	require.NoError(t, err)
	s.query(t, `update agents set password_hash = '`+strings.Replace(string(hash), "$2a$", "$2b$", 1)+`' returning email`, new(string))

	for _, email := range []string{"asha@example.com", "nobody@example.com"} {
		took := clock.Stopwatch()
		require.Equal(t, http.StatusUnauthorized, s.login(t, email, "wrong").status)
		require.GreaterOrEqual(t, took(), 400*time.Millisecond, "the time of a failed login hides what kind of hash there is")
	}
	var kept string
	s.query(t, `select password_hash from agents`, &kept)
	require.True(t, strings.HasPrefix(kept, "$2b$"))
	for range 2 {
		require.Equal(t, http.StatusOK, s.login(t, "asha@example.com", "from the old days").status)
		s.query(t, `select password_hash from agents`, &kept)
		require.True(t, strings.HasPrefix(kept, "$argon2id$v=19$m=19456,t=2,p=1$"))
	}
}
