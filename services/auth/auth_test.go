package auth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// app is a running auth.
type app struct {
	*servicetest.World
	cfg auth.Config
	ip  string // source address of requests
}

const secretKey = "Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE"

func start(t *testing.T, change ...func(*auth.Config)) app {
	t.Helper()
	a := app{World: servicetest.New(t, auth.Contract()), cfg: auth.Defaults(), ip: "203.0.113.7"}
	a.Config.Access = nil
	a.cfg.Config, a.cfg.SecretKey = a.Config, secretKey
	for _, c := range change {
		c(&a.cfg)
	}
	a.Start(a.make)
	return a
}

func (a app) make(ctx context.Context, tel telemetry.Set) (*service.App, error) {
	return auth.New(ctx, a.cfg, tel)
}

// replica starts another process on the same database and broker.
func (a app) replica(change ...func(*auth.Config)) app {
	a.T.Helper()
	for _, c := range change {
		c(&a.cfg)
	}
	a.World = a.Replica(a.make)
	return a
}

// in returns the app for a subtest.
func (a app) in(t *testing.T) app {
	a.World = a.In(t)
	return a
}

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

// send sends a request with a token, as a phone does; bearer is empty for none.
func (a app) send(bearer, method, path, body string, header ...string) servicetest.Answer {
	a.T.Helper()
	header = append([]string{"X-Forwarded-For", a.ip, "User-Agent", "Convoflow for Android/2.1"}, header...)
	return a.Do(identity.Caller{Token: bearer}, method, path, body, header...)
}

func (a app) register(email string) servicetest.Answer {
	a.T.Helper()
	return a.send("", "POST", "/auth/register", `{"email":"`+email+`","password":"tangerine-otter","full_name":"Asha Rao"}`)
}

func (a app) login(email, password string) servicetest.Answer {
	a.T.Helper()
	form := url.Values{"grant_type": {"password"}, "username": {email}, "password": {password}}
	return a.send("", "POST", "/auth/login", form.Encode(), "Content-Type", formType)
}

// token logs in and returns the access token.
func (a app) token(email string) string {
	a.T.Helper()
	return a.login(email, "tangerine-otter").Is(200).Text("access_token")
}

func (a app) me(bearer string) servicetest.Answer {
	a.T.Helper()
	return a.send(bearer, "GET", "/auth/me", "")
}

func (a app) refresh(token string) servicetest.Answer {
	a.T.Helper()
	return a.send("", "POST", "/auth/refresh", fmt.Sprintf(`{"refresh_token":%q}`, token))
}

// value reads the single value that a statement returns.
func value[V any](a app, sql string, args ...any) V {
	a.T.Helper()
	values := pgtest.Column[V](a.T, a.DB, sql, args...)
	require.Len(a.T, values, 1)
	return values[0]
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := start(t)
	tokens := map[string]string{}
	for _, name := range []string{"asha", "inactive", "rep", "leaver", "former"} {
		s.register(name + "@example.com").Is(201)
		tokens[name] = s.token(name + "@example.com")
	}
	asha, inactive, rep, leaving := tokens["asha"], tokens["inactive"], tokens["rep"], tokens["leaver"]
	ashaID, formerID, missing := s.me(asha).Text("id"), s.me(tokens["former"]).Text("id"), event.NewID()
	ashasSession := s.send(asha, "GET", "/auth/sessions", "").IDs()[0]
	value[string](s, `update agents set is_active = false where email = 'inactive@example.com' returning id::text`)

	registration := func(email, password, rest string) string {
		return fmt.Sprintf(`{"email":%q,"password":%q%s}`, email, password, rest)
	}
	huge := strings.Repeat(" ", 1<<20) + "{}"
	for name, c := range map[string]struct {
		method, path, contentType, body, bearer string
		status                                  int
		code                                    string
		wrong                                   []string
	}{
		"register":                       {"POST", "/auth/register", jsonType, registration("ben@example.com", "tangerine-otter", `,"full_name":"Ben"`), "", 201, "", nil},
		"register with name":             {"POST", "/auth/register", jsonType, registration("cy@example.com", "tangerine-otter", `,"name":"Cy","unknown":1`), "", 201, "", nil},
		"register, trailing slash":       {"POST", "/auth/register/", jsonType, registration("di@example.com", "tangerine-otter", `,"name":"Di"`), "", 201, "", nil},
		"register, longest password":     {"POST", "/auth/register", jsonType, registration("ed@example.com", strings.Repeat("é", 128), `,"name":"Ed"`), "", 201, "", nil},
		"register, not JSON":             {"POST", "/auth/register", jsonType, `{"email":`, "", 400, "malformed_json", nil},
		"register, taken":                {"POST", "/auth/register", jsonType, registration("ASHA@Example.com", "tangerine-otter", `,"full_name":"A"`), "", 409, "email_taken", nil},
		"register, too large":            {"POST", "/auth/register", jsonType, huge, "", 413, "body_too_large", nil},
		"register, a form":               {"POST", "/auth/register", formType, "email=x", "", 415, "unsupported_content_type", nil},
		"register, nothing":              {"POST", "/auth/register", jsonType, `{}`, "", 422, "validation_error", []string{"email missing", "full_name missing", "password missing"}},
		"register, everything wrong":     {"POST", "/auth/register", jsonType, registration("asha", "short", `,"full_name":""`), "", 422, "validation_error", []string{"email value_error", "full_name string_pattern_mismatch", "full_name string_too_short", "password string_too_short"}},
		"register, without a name":       {"POST", "/auth/register", jsonType, registration("fa@example.com", "tangerine-otter", ""), "", 422, "validation_error", []string{"full_name missing"}},
		"register, password too long":    {"POST", "/auth/register", jsonType, registration("fa@example.com", strings.Repeat("é", 129), `,"name":"Fa"`), "", 422, "validation_error", []string{"password string_too_long"}},
		"register, two @":                {"POST", "/auth/register", jsonType, registration("a@b@example.com", "tangerine-otter", `,"name":"Fa"`), "", 422, "validation_error", []string{"email value_error"}},
		"register, common password":      {"POST", "/auth/register", jsonType, registration("fa@example.com", "Password1", `,"name":"Fa"`), "", 422, "validation_error", []string{"password password_common"}},
		"register, display name":         {"POST", "/auth/register", jsonType, registration("Fa <fa@example.com>", "tangerine-otter", `,"name":"Fa"`), "", 422, "validation_error", []string{"email value_error"}},
		"register, long e-mail":          {"POST", "/auth/register", jsonType, registration(strings.Repeat("a", 243)+"@example.com", "tangerine-otter", `,"name":"Fa"`), "", 422, "validation_error", []string{"email string_too_long"}},
		"register, e-mail of 255 bytes":  {"POST", "/auth/register", jsonType, registration(strings.Repeat("é", 121)+"a@example.com", "tangerine-otter", `,"name":"Fa"`), "", 422, "validation_error", []string{"email string_too_long"}},
		"register, NUL":                  {"POST", "/auth/register", jsonType, registration("fa@example.com", "tangerine-otter", `,"name":"F\u0000a"`), "", 422, "validation_error", []string{"name string_unicode"}},
		"login":                          {"POST", "/auth/login", formType, "username=asha%40example.com&password=tangerine-otter", "", 200, "", nil},
		"login without case":             {"POST", "/auth/login", formType, "username=ASHA%40example.com&password=tangerine-otter&scope=", "", 200, "", nil},
		"login, malformed":               {"POST", "/auth/login", formType, "username=%zz", "", 400, "malformed_form", nil},
		"login, wrong password":          {"POST", "/auth/login", formType, "username=asha%40example.com&password=tangerine-otteR", "", 401, "invalid_credentials", nil},
		"login, no password":             {"POST", "/auth/login", formType, "username=asha%40example.com&password=", "", 401, "invalid_credentials", nil},
		"login, unknown":                 {"POST", "/auth/login", formType, "username=nobody%40example.com&password=tangerine-otter", "", 401, "invalid_credentials", nil},
		"login, inactive":                {"POST", "/auth/login", formType, "username=inactive%40example.com&password=tangerine-otter", "", 401, "invalid_credentials", nil},
		"login, too large":               {"POST", "/auth/login", formType, huge, "", 413, "body_too_large", nil},
		"login, JSON":                    {"POST", "/auth/login", jsonType, `{"username":"asha@example.com"}`, "", 415, "unsupported_content_type", nil},
		"login, nothing":                 {"POST", "/auth/login", formType, "", "", 422, "validation_error", []string{"password missing", "username missing"}},
		"me":                             {"GET", "/auth/me", "", "", asha, 200, "", nil},
		"me, nobody":                     {"GET", "/auth/me", "", "", "", 401, "not_authenticated", nil},
		"me, forged":                     {"GET", "/auth/me", "", "", asha[:len(asha)-4] + "AAAA", 401, "invalid_token", nil},
		"me, inactive":                   {"GET", "/auth/me", "", "", inactive, 401, "session_ended", nil},
		"me, DELETE":                     {"DELETE", "/auth/me", "", "", asha, 405, "method_not_allowed", nil},
		"rename":                         {"PATCH", "/auth/me", jsonType, `{"full_name":"Asha Rao"}`, asha, 200, "", nil},
		"rename, not JSON":               {"PATCH", "/auth/me", jsonType, `no`, asha, 400, "malformed_json", nil},
		"rename, nobody":                 {"PATCH", "/auth/me", jsonType, `{"full_name":"X"}`, "", 401, "not_authenticated", nil},
		"rename, inactive":               {"PATCH", "/auth/me", jsonType, `{"full_name":"X"}`, inactive, 401, "session_ended", nil},
		"rename, too large":              {"PATCH", "/auth/me", jsonType, huge, asha, 413, "body_too_large", nil},
		"rename, a form":                 {"PATCH", "/auth/me", formType, "full_name=X", asha, 415, "unsupported_content_type", nil},
		"rename, blank":                  {"PATCH", "/auth/me", jsonType, `{"full_name":"  "}`, asha, 422, "validation_error", []string{"full_name string_pattern_mismatch"}},
		"rename, null":                   {"PATCH", "/auth/me", jsonType, `{"full_name":null}`, asha, 422, "validation_error", []string{"full_name string_type"}},
		"rename, nothing":                {"PATCH", "/auth/me", jsonType, `{}`, asha, 422, "validation_error", []string{"body too_short"}},
		"rename, nothing known":          {"PATCH", "/auth/me", jsonType, `{"fullname":"Asha"}`, asha, 422, "validation_error", []string{"body too_short"}},
		"rename by the older name":       {"PATCH", "/auth/me", jsonType, `{"name":"Asha Rao"}`, asha, 200, "", nil},
		"rename, the older name blank":   {"PATCH", "/auth/me", jsonType, `{"name":""}`, asha, 422, "validation_error", []string{"name string_pattern_mismatch", "name string_too_short"}},
		"refresh, unknown":               {"POST", "/auth/refresh", jsonType, `{"refresh_token":"x"}`, "", 401, "invalid_refresh_token", nil},
		"refresh, an access token":       {"POST", "/auth/refresh", jsonType, `{"refresh_token":"` + asha[:100] + `"}`, "", 401, "invalid_refresh_token", nil},
		"refresh, too long":              {"POST", "/auth/refresh", jsonType, `{"refresh_token":"` + strings.Repeat("x", 201) + `"}`, "", 422, "validation_error", []string{"refresh_token string_too_long"}},
		"refresh, nothing":               {"POST", "/auth/refresh", jsonType, `{}`, "", 422, "validation_error", []string{"refresh_token missing"}},
		"refresh, not JSON":              {"POST", "/auth/refresh", jsonType, `{`, "", 400, "malformed_json", nil},
		"refresh, a form":                {"POST", "/auth/refresh", formType, `refresh_token=x`, "", 415, "unsupported_content_type", nil},
		"refresh, too large":             {"POST", "/auth/refresh", jsonType, huge, "", 413, "body_too_large", nil},
		"logout":                         {"POST", "/auth/logout", "", "", leaving, 204, "", nil},
		"password, wrong":                {"POST", "/auth/me/password", jsonType, `{"current_password":"x","new_password":"violet-heron"}`, rep, 403, "wrong_password", nil},
		"password, right":                {"POST", "/auth/me/password", jsonType, `{"current_password":"tangerine-otter","new_password":"violet-heron"}`, rep, 204, "", nil},
		"password, common":               {"POST", "/auth/me/password", jsonType, `{"current_password":"x","new_password":"qwertyuiop"}`, rep, 422, "validation_error", []string{"new_password password_common"}},
		"password, nothing":              {"POST", "/auth/me/password", jsonType, `{}`, rep, 422, "validation_error", []string{"current_password missing", "new_password missing"}},
		"password, not JSON":             {"POST", "/auth/me/password", jsonType, `{`, rep, 400, "malformed_json", nil},
		"password, a form":               {"POST", "/auth/me/password", formType, `x=y`, rep, 415, "unsupported_content_type", nil},
		"password, too large":            {"POST", "/auth/me/password", jsonType, huge, rep, 413, "body_too_large", nil},
		"sessions":                       {"GET", "/auth/sessions", "", "", rep, 200, "", nil},
		"sessions, bad page":             {"GET", "/auth/sessions?limit=501&cursor=x&skip=-1", "", "", rep, 422, "validation_error", []string{"limit less_than_equal", "skip greater_than_equal"}},
		"sessions, bad cursor":           {"GET", "/auth/sessions?cursor=x", "", "", rep, 422, "validation_error", []string{"cursor value_error"}},
		"session of another":             {"DELETE", "/auth/sessions/" + ashasSession, "", "", rep, 403, "not_your_session", nil},
		"session that is none":           {"DELETE", "/auth/sessions/" + missing, "", "", rep, 404, "session_not_found", nil},
		"session without an id":          {"DELETE", "/auth/sessions/x", "", "", rep, 404, "session_not_found", nil},
		"agents":                         {"GET", "/agents?role=agent&is_active=true&q=Rao", "", "", asha, 200, "", nil},
		"agents, not an admin":           {"GET", "/agents", "", "", rep, 200, "", nil},
		"agents, nobody":                 {"GET", "/agents", "", "", "", 401, "not_authenticated", nil},
		"agents, bad filter":             {"GET", "/agents?role=boss&is_active=maybe", "", "", asha, 422, "validation_error", []string{"is_active bool_parsing", "role enum"}},
		"agent":                          {"GET", "/agents/" + ashaID, "", "", asha, 200, "", nil},
		"agent, not an admin":            {"GET", "/agents/" + ashaID, "", "", rep, 200, "", nil},
		"agent, nobody":                  {"GET", "/agents/" + ashaID, "", "", "", 401, "not_authenticated", nil},
		"agent that is none":             {"GET", "/agents/" + missing, "", "", asha, 404, "agent_not_found", nil},
		"agent without an id":            {"GET", "/agents/x", "", "", asha, 404, "agent_not_found", nil},
		"new agent":                      {"POST", "/agents", jsonType, `{"email":"gus@example.com","name":"Gus"}`, asha, 201, "", nil},
		"new agent, not an admin":        {"POST", "/agents", jsonType, `{"email":"hal@example.com","name":"Hal"}`, rep, 403, "admin_only", nil},
		"new agent, taken":               {"POST", "/agents", jsonType, `{"email":"asha@example.com","name":"Gus"}`, asha, 409, "email_taken", nil},
		"new agent, nothing":             {"POST", "/agents", jsonType, `{}`, asha, 422, "validation_error", []string{"email missing", "full_name missing"}},
		"new agent, everything wrong":    {"POST", "/agents", jsonType, `{"email":1,"name":"","role":"boss","is_active":"no","password":"short"}`, asha, 422, "validation_error", []string{"email string_type", "is_active bool_type", "name string_pattern_mismatch", "name string_too_short", "password string_too_short", "role enum"}},
		"new agent, common password":     {"POST", "/agents", jsonType, `{"email":"hal@example.com","name":"Hal","password":"sunshine"}`, asha, 422, "validation_error", []string{"password password_common"}},
		"new agent, not JSON":            {"POST", "/agents", jsonType, `[`, asha, 400, "malformed_json", nil},
		"new agent, a form":              {"POST", "/agents", formType, `x=y`, asha, 415, "unsupported_content_type", nil},
		"new agent, too large":           {"POST", "/agents", jsonType, huge, asha, 413, "body_too_large", nil},
		"change agent":                   {"PATCH", "/agents/" + ashaID, jsonType, `{"full_name":"Asha Rao"}`, asha, 200, "", nil},
		"change agent, not an admin":     {"PATCH", "/agents/" + ashaID, jsonType, `{"role":"agent"}`, rep, 403, "admin_only", nil},
		"change agent, last admin":       {"PATCH", "/agents/" + ashaID, jsonType, `{"role":"agent"}`, asha, 409, "last_admin", nil},
		"change agent, e-mail taken":     {"PATCH", "/agents/" + ashaID, jsonType, `{"email":"inactive@example.com"}`, asha, 409, "email_taken", nil},
		"change agent that is none":      {"PATCH", "/agents/" + missing, jsonType, `{"full_name":"X"}`, asha, 404, "agent_not_found", nil},
		"change agent by the older name": {"PATCH", "/agents/" + ashaID, jsonType, `{"name":"Asha Rao"}`, asha, 200, "", nil},
		"change agent, nothing":          {"PATCH", "/agents/" + ashaID, jsonType, `{}`, asha, 422, "validation_error", []string{"body too_short"}},
		"change agent, nothing known":    {"PATCH", "/agents/" + ashaID, jsonType, `{"phone":"1"}`, asha, 422, "validation_error", []string{"body too_short"}},
		"change agent without an id":     {"PATCH", "/agents/x", jsonType, `{"full_name":"X"}`, asha, 404, "agent_not_found", nil},
		"delete agent, nobody":           {"DELETE", "/agents/" + formerID, "", "", "", 401, "not_authenticated", nil},
		"delete agent, not an admin":     {"DELETE", "/agents/" + ashaID, "", "", rep, 403, "admin_only", nil},
		"delete agent, last admin":       {"DELETE", "/agents/" + ashaID, "", "", asha, 409, "last_admin", nil},
		"delete agent that is none":      {"DELETE", "/agents/" + missing, "", "", asha, 404, "agent_not_found", nil},
		"delete agent without an id":     {"DELETE", "/agents/x", "", "", asha, 404, "agent_not_found", nil},
		"delete agent":                   {"DELETE", "/agents/" + formerID, "", "", asha, 204, "", nil},
		"change agent, nulls":            {"PATCH", "/agents/" + ashaID, jsonType, `{"email":null,"is_active":null}`, asha, 422, "validation_error", []string{"email string_type", "is_active bool_type"}},
		"change agent, not JSON":         {"PATCH", "/agents/" + ashaID, jsonType, `no`, asha, 400, "malformed_json", nil},
		"change agent, a form":           {"PATCH", "/agents/" + ashaID, formType, `x=y`, asha, 415, "unsupported_content_type", nil},
		"change agent, too large":        {"PATCH", "/agents/" + ashaID, jsonType, huge, asha, 413, "body_too_large", nil},
		"keys":                           {"GET", "/.well-known/jwks.json", "", "", "", 200, "", nil},
		"unknown path":                   {"GET", "/auth/you", "", "", "", 404, "not_found", nil},
		"health":                         {"GET", "/health", "", "", "", 200, "", nil},
		"ready":                          {"GET", "/ready", "", "", "", 200, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var header []string
			if c.contentType != "" {
				header = []string{"Content-Type", c.contentType}
			}
			a := s.in(t).send(c.bearer, c.method, c.path, c.body, header...).Is(c.status)
			if c.status < 400 {
				return
			}
			a.Fails(c.status, c.code)
			require.Equal(t, a.Header.Get("X-Request-ID"), a.Text("request_id"))
			if c.status == 422 {
				require.Equal(t, c.wrong, wrongFields(a))
			}
		})
	}
}

// wrongFields returns the last part of the loc and the type of each invalid field.
func wrongFields(a servicetest.Answer) (wrong []string) {
	for _, each := range a.Object()["errors"].([]any) {
		field := each.(map[string]any)
		loc := field["loc"].([]any)
		wrong = append(wrong, fmt.Sprint(loc[len(loc)-1], " ", field["type"]))
	}
	slices.Sort(wrong)
	return wrong
}

func TestClosedRegistration(t *testing.T) {
	t.Parallel()
	s := start(t, closed)
	s.register("asha@example.com").Fails(403, "registration_closed")
}

func TestDatabaseThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register("asha@example.com")
	bearer := s.token("asha@example.com")
	// It needs its own connection: those of the service's pool may not be idle in a transaction for long.
	conn, err := pgx.Connect(t.Context(), s.cfg.Database.URL.Reveal())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `lock table agents, founding in access exclusive mode`)
	require.NoError(t, err)

	var all sync.WaitGroup
	for _, send := range []func() servicetest.Answer{
		func() servicetest.Answer { return s.register("ben@example.com") },
		func() servicetest.Answer { return s.login("asha@example.com", "tangerine-otter") },
		func() servicetest.Answer { return s.me(bearer) },
		func() servicetest.Answer { return s.send(bearer, "PATCH", "/auth/me", `{"full_name":"X"}`) },
	} {
		all.Go(func() { require.NotEmpty(t, send().Fails(503, "database_unavailable").Header.Get("Retry-After")) })
	}
	all.Wait()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	s := start(t)
	registered := s.register("asha@example.com")
	loggedIn := s.login("asha@example.com", "tangerine-otter")
	bearer := loggedIn.Text("access_token")
	golden(t, "register", registered)
	golden(t, "login", loggedIn)
	golden(t, "me", s.me(bearer))
	golden(t, "update", s.send(bearer, "PATCH", "/auth/me", `{"full_name":"Asha Iyer"}`))
	golden(t, "sessions", s.send(bearer, "GET", "/auth/sessions", ""))
	golden(t, "agents", s.send(bearer, "GET", "/agents", ""))
	golden(t, "created_agent", s.send(bearer, "POST", "/agents", `{"email":"ben@example.com","full_name":"Ben","password":"violet-heron"}`))
	golden(t, "refresh", s.refresh(loggedIn.Text("refresh_token")))
	golden(t, "jwks", s.send("", "GET", "/.well-known/jwks.json", ""))
	golden(t, "invalid_credentials", s.login("nobody@example.com", "tangerine-otter"))
}

// golden compares a body with its file after it replaces what differs between runs.
func golden(t *testing.T, name string, a servicetest.Answer) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name + ".json")
	require.NoError(t, err)
	var want any
	require.NoError(t, json.Unmarshal(raw, &want))
	var got any
	require.NoError(t, json.Unmarshal([]byte(a.Body), &got))
	blank(got)
	require.Empty(t, cmp.Diff(want, got), "%s", a.Body)
}

func blank(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			switch name {
			case "id", "created_at", "last_used_at", "access_token", "refresh_token", "kid", "x", "request_id":
				v[name] = "…"
			default:
				blank(value)
			}
		}
	case []any:
		for _, each := range v {
			blank(each)
		}
	}
}

func TestTokensVerifyAgainstThePublishedKeys(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *auth.Config) { c.TokenMinutes = 5 })
	registered := s.register("asha@example.com")
	loggedIn := s.login("asha@example.com", "tangerine-otter")
	require.Equal(t, "no-store", loggedIn.Header.Get("Cache-Control"))
	require.EqualValues(t, 300, loggedIn.Object()["expires_in"])
	jwks := s.send("", "GET", "/.well-known/jwks.json", "")
	require.Equal(t, "public, max-age=60", jwks.Header.Get("Cache-Control"))

	keys := s.publicKeys()
	text := loggedIn.Text("access_token")
	caller, err := token.NewVerifier(keys.Key, clock.System{}).Verify(text)
	require.NoError(t, err)
	require.Equal(t, registered.Text("id"), caller.AgentID)
	require.Equal(t, identity.Admin, caller.Role)
	later := clock.At(clock.System{}.Now().Add(6 * time.Minute))
	_, err = token.NewVerifier(keys.Key, later).Verify(text)
	require.ErrorContains(t, err, "token_expired")

	stored := value[[]string](s, `select array[agent_id::text, user_agent, ip] from sessions where id = $1`, caller.SessionID)
	require.Equal(t, []string{caller.AgentID, "Convoflow for Android/2.1", "203.0.113.7"}, stored)
}

func TestFailedLoginsHaveTheSameAnswer(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register("asha@example.com")
	var answers []map[string]any
	for _, email := range []string{"asha@example.com", "nobody@example.com"} {
		answer := s.login(email, "tangerine").Is(401).Object()
		delete(answer, "request_id")
		answers = append(answers, answer)
	}
	require.Equal(t, answers[0], answers[1])
}

func TestOneAddressOneAccountOneAdmin(t *testing.T) {
	t.Parallel()
	first := start(t)
	replicas := []app{first, first.replica()}
	const each = 4
	answers := make(chan servicetest.Answer, 2*2*each)
	var all sync.WaitGroup
	for _, s := range replicas {
		for i := range each {
			all.Go(func() { answers <- s.register("same@example.com") })
			all.Go(func() { answers <- s.register(fmt.Sprintf("agent%d-%s@example.com", i, s.URL[len(s.URL)-5:])) })
		}
	}
	all.Wait()
	close(answers)
	created, taken, admins := map[string]int{}, 0, 0
	for a := range answers {
		switch a.Status {
		case http.StatusCreated:
			created[a.Text("email")]++
			if a.Text("role") == "admin" {
				admins++
			}
		case http.StatusConflict:
			taken++
		default:
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
	require.Equal(t, 1, created["same@example.com"])
	require.Equal(t, 2*each-1, taken)
	require.Len(t, created, 2*each+1)
	require.Equal(t, 1, admins)

	require.Equal(t, replicas[0].send("", "GET", "/.well-known/jwks.json", "").Body, replicas[1].send("", "GET", "/.well-known/jwks.json", "").Body)
	replicas[1].me(replicas[0].token("same@example.com")).Is(200) // a token of one replica is valid at the other
}

func TestEventsReachKafka(t *testing.T) {
	t.Parallel()
	s := start(t)
	registered := s.register("asha@example.com")
	s.send(s.token("asha@example.com"), "PATCH", "/auth/me", `{"full_name":"Asha Iyer"}`).Is(200)

	var types []string
	var last events.Agent
	for _, m := range bustest.Read(t, s.cfg.Kafka.Brokers, events.AgentsTopic, 2) {
		require.Equal(t, registered.Text("id"), string(m.Key))
		for _, h := range m.Headers {
			if h.Key == "ce_type" {
				types = append(types, string(h.Value))
			}
		}
		require.NotContains(t, string(m.Value), "argon2id")
		require.NoError(t, json.Unmarshal(m.Value, &last))
	}
	require.Equal(t, []string{"agent.registered", "agent.updated"}, types)
	require.Equal(t, "Asha Iyer", last.FullName)
	require.EqualValues(t, 2, last.Version)
	require.Equal(t, time.UTC, last.UpdatedAt.Location())
}

func TestAnotherSecretDoesNotStart(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.cfg.SecretKey = "an0ther-One-0f-thirty-two-lettersX"
	_, err := auth.New(t.Context(), s.cfg, telemetry.Nop())
	require.ErrorContains(t, err, "SECRET_KEY does not open the signing keys")
	require.Equal(t, 2, value[int](s, `select count(*) from signing_keys`))
}

func TestConfigNamesEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := conf.Load(auth.Defaults(), []string{"REGISTRATION=ajar", "ACCESS_TOKEN_EXPIRE_MINUTES=0", "KEY_ROTATION_DAYS=366", "LOG_FORMAT=xml"})
	var wrong *conf.Error
	require.ErrorAs(t, err, &wrong)
	require.Len(t, wrong.Problems, 7, "%s", err)
	for i, setting := range []string{"ACCESS_TOKEN_EXPIRE_MINUTES", "DATABASE_URL", "KAFKA_BROKERS", "KEY_ROTATION_DAYS", "LOG_FORMAT", "REGISTRATION", "SECRET_KEY"} {
		require.True(t, strings.HasPrefix(wrong.Problems[i], setting), wrong.Problems[i])
	}
	cfg, err := conf.Load(auth.Defaults(), []string{"REGISTRATION=closed", "ACCESS_TOKEN_EXPIRE_MINUTES=60", "DATABASE_URL=postgres://a:b@localhost/c", "KAFKA_BROKERS=localhost:9092", "SECRET_KEY=Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE"})
	require.NoError(t, err)
	require.Equal(t, 60, cfg.TokenMinutes)
	require.NotContains(t, conf.Usage(auth.Defaults()), "AUTH_URL", "auth fetches no keys")
}
