package auth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
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
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// service is a running auth.
type service struct {
	url      string
	database string
	brokers  []string
	ip       string // where requests come from
}

func settings(database string, brokers []string) auth.Config {
	cfg := auth.Defaults()
	cfg.HTTP.Addr, cfg.Admin.Addr = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Database.URL, cfg.Kafka.Brokers = conf.Secret(database), brokers
	cfg.SecretKey = "Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE"
	return cfg
}

func start(t *testing.T, change ...func(*auth.Config)) service {
	t.Helper()
	return replica(t, pgtest.Schema(t), bustest.Broker(t), change...)
}

func replica(t *testing.T, database string, brokers []string, change ...func(*auth.Config)) service {
	t.Helper()
	cfg := settings(database, brokers)
	for _, c := range change {
		c(&cfg)
	}
	app, err := auth.New(t.Context(), cfg, telemetry.Nop())
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return service{"http://" + app.Addr(), database, brokers, "203.0.113.7"}
}

// answer is what came back, with the body both as it was and decoded.
type answer struct {
	status int
	header http.Header
	text   string
	body   map[string]any   // of an object
	list   []map[string]any // of an array
}

func (s service) send(t *testing.T, method, path, contentType, body, bearer string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(t, err)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	req.Header.Set("X-Forwarded-For", s.ip)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	req.Header.Set("User-Agent", "Convoflow for Android/2.1")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	a := answer{status: res.StatusCode, header: res.Header, text: string(raw)}
	switch {
	case len(raw) == 0:
	case raw[0] == '[':
		require.NoError(t, json.Unmarshal(raw, &a.list), "%s", raw)
	default:
		require.NoError(t, json.Unmarshal(raw, &a.body), "%s", raw)
	}
	return a
}

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
)

func (s service) register(t *testing.T, email string) answer {
	t.Helper()
	return s.send(t, "POST", "/auth/register", jsonType, `{"email":"`+email+`","password":"tangerine-otter","full_name":"Asha Rao"}`, "")
}

func (s service) login(t *testing.T, email, password string) answer {
	t.Helper()
	return s.send(t, "POST", "/auth/login", formType, url.Values{"grant_type": {"password"}, "username": {email}, "password": {password}}.Encode(), "")
}

func (s service) token(t *testing.T, email string) string {
	t.Helper()
	a := s.login(t, email, "tangerine-otter")
	require.Equal(t, http.StatusOK, a.status, a.text)
	return a.body["access_token"].(string)
}

func (s service) query(t *testing.T, sql string, into ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(into...))
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := start(t)
	require.Equal(t, http.StatusCreated, s.register(t, "asha@example.com").status)
	require.Equal(t, http.StatusCreated, s.register(t, "gone@example.com").status)
	require.Equal(t, http.StatusCreated, s.register(t, "rep@example.com").status)
	asha, gone, rep := s.token(t, "asha@example.com"), s.token(t, "gone@example.com"), s.token(t, "rep@example.com")
	require.Equal(t, http.StatusCreated, s.register(t, "leaver@example.com").status)
	leaving := s.token(t, "leaver@example.com")
	ashaID := s.send(t, "GET", "/auth/me", "", "", asha).body["id"].(string)
	ashasSession := s.send(t, "GET", "/auth/sessions", "", "", asha).list[0]["id"].(string)
	s.query(t, `update agents set is_active = false where email = 'gone@example.com' returning id::text`, new(string))

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
		"register":                      {"POST", "/auth/register", jsonType, registration("ben@example.com", "tangerine-otter", `,"full_name":"Ben"`), "", 201, "", nil},
		"register with name":            {"POST", "/auth/register", jsonType, registration("cy@example.com", "tangerine-otter", `,"name":"Cy","unknown":1`), "", 201, "", nil},
		"register, trailing slash":      {"POST", "/auth/register/", jsonType, registration("di@example.com", "tangerine-otter", `,"name":"Di"`), "", 201, "", nil},
		"register, longest password":    {"POST", "/auth/register", jsonType, registration("ed@example.com", strings.Repeat("é", 128), `,"name":"Ed"`), "", 201, "", nil},
		"register, not JSON":            {"POST", "/auth/register", jsonType, `{"email":`, "", 400, "malformed_json", nil},
		"register, taken":               {"POST", "/auth/register", jsonType, registration("ASHA@Example.com", "tangerine-otter", `,"full_name":"A"`), "", 409, "email_taken", nil},
		"register, too large":           {"POST", "/auth/register", jsonType, huge, "", 413, "body_too_large", nil},
		"register, a form":              {"POST", "/auth/register", formType, "email=x", "", 415, "unsupported_content_type", nil},
		"register, nothing":             {"POST", "/auth/register", jsonType, `{}`, "", 422, "validation_error", []string{"email missing", "full_name missing", "password missing"}},
		"register, everything wrong":    {"POST", "/auth/register", jsonType, registration("asha", "short", `,"full_name":""`), "", 422, "validation_error", []string{"email value_error", "full_name string_pattern_mismatch", "full_name string_too_short", "password string_too_short"}},
		"register, without a name":      {"POST", "/auth/register", jsonType, registration("fa@example.com", "tangerine-otter", ""), "", 422, "validation_error", []string{"full_name missing"}},
		"register, password too long":   {"POST", "/auth/register", jsonType, registration("fa@example.com", strings.Repeat("é", 129), `,"name":"Fa"`), "", 422, "validation_error", []string{"password string_too_long"}},
		"register, two @":               {"POST", "/auth/register", jsonType, registration("a@b@example.com", "tangerine-otter", `,"name":"Fa"`), "", 422, "validation_error", []string{"email value_error"}},
		"register, common password":     {"POST", "/auth/register", jsonType, registration("fa@example.com", "Password1", `,"name":"Fa"`), "", 422, "validation_error", []string{"password password_common"}},
		"register, display name":        {"POST", "/auth/register", jsonType, registration("Fa <fa@example.com>", "tangerine-otter", `,"name":"Fa"`), "", 422, "validation_error", []string{"email value_error"}},
		"register, long e-mail":         {"POST", "/auth/register", jsonType, registration(strings.Repeat("a", 243)+"@example.com", "tangerine-otter", `,"name":"Fa"`), "", 422, "validation_error", []string{"email string_too_long"}},
		"register, e-mail of 255 bytes": {"POST", "/auth/register", jsonType, registration(strings.Repeat("é", 121)+"a@example.com", "tangerine-otter", `,"name":"Fa"`), "", 422, "validation_error", []string{"email string_too_long"}},
		"register, NUL":                 {"POST", "/auth/register", jsonType, registration("fa@example.com", "tangerine-otter", `,"name":"F\u0000a"`), "", 422, "validation_error", []string{"name string_unicode"}},
		"login":                         {"POST", "/auth/login", formType, "username=asha%40example.com&password=tangerine-otter", "", 200, "", nil},
		"login without case":            {"POST", "/auth/login", formType, "username=ASHA%40example.com&password=tangerine-otter&scope=", "", 200, "", nil},
		"login, malformed":              {"POST", "/auth/login", formType, "username=%zz", "", 400, "malformed_form", nil},
		"login, wrong password":         {"POST", "/auth/login", formType, "username=asha%40example.com&password=tangerine-otteR", "", 401, "invalid_credentials", nil},
		"login, no password":            {"POST", "/auth/login", formType, "username=asha%40example.com&password=", "", 401, "invalid_credentials", nil},
		"login, unknown":                {"POST", "/auth/login", formType, "username=nobody%40example.com&password=tangerine-otter", "", 401, "invalid_credentials", nil},
		"login, inactive":               {"POST", "/auth/login", formType, "username=gone%40example.com&password=tangerine-otter", "", 401, "invalid_credentials", nil},
		"login, too large":              {"POST", "/auth/login", formType, huge, "", 413, "body_too_large", nil},
		"login, JSON":                   {"POST", "/auth/login", jsonType, `{"username":"asha@example.com"}`, "", 415, "unsupported_content_type", nil},
		"login, nothing":                {"POST", "/auth/login", formType, "", "", 422, "validation_error", []string{"password missing", "username missing"}},
		"me":                            {"GET", "/auth/me", "", "", asha, 200, "", nil},
		"me, nobody":                    {"GET", "/auth/me", "", "", "", 401, "not_authenticated", nil},
		"me, forged":                    {"GET", "/auth/me", "", "", asha[:len(asha)-4] + "AAAA", 401, "invalid_token", nil},
		"me, inactive":                  {"GET", "/auth/me", "", "", gone, 401, "session_ended", nil},
		"me, DELETE":                    {"DELETE", "/auth/me", "", "", asha, 405, "method_not_allowed", nil},
		"rename":                        {"PATCH", "/auth/me", jsonType, `{"full_name":"Asha Rao"}`, asha, 200, "", nil},
		"rename, not JSON":              {"PATCH", "/auth/me", jsonType, `no`, asha, 400, "malformed_json", nil},
		"rename, nobody":                {"PATCH", "/auth/me", jsonType, `{"full_name":"X"}`, "", 401, "not_authenticated", nil},
		"rename, inactive":              {"PATCH", "/auth/me", jsonType, `{"full_name":"X"}`, gone, 401, "session_ended", nil},
		"rename, too large":             {"PATCH", "/auth/me", jsonType, huge, asha, 413, "body_too_large", nil},
		"rename, a form":                {"PATCH", "/auth/me", formType, "full_name=X", asha, 415, "unsupported_content_type", nil},
		"rename, blank":                 {"PATCH", "/auth/me", jsonType, `{"full_name":"  "}`, asha, 422, "validation_error", []string{"full_name string_pattern_mismatch"}},
		"rename, null":                  {"PATCH", "/auth/me", jsonType, `{"full_name":null}`, asha, 422, "validation_error", []string{"full_name string_type"}},
		"rename, nothing":               {"PATCH", "/auth/me", jsonType, `{}`, asha, 422, "validation_error", []string{"full_name missing"}},
		"refresh, unknown":              {"POST", "/auth/refresh", jsonType, `{"refresh_token":"x"}`, "", 401, "invalid_refresh_token", nil},
		"refresh, an access token":      {"POST", "/auth/refresh", jsonType, `{"refresh_token":"` + asha[:100] + `"}`, "", 401, "invalid_refresh_token", nil},
		"refresh, too long":             {"POST", "/auth/refresh", jsonType, `{"refresh_token":"` + strings.Repeat("x", 201) + `"}`, "", 422, "validation_error", []string{"refresh_token string_too_long"}},
		"refresh, nothing":              {"POST", "/auth/refresh", jsonType, `{}`, "", 422, "validation_error", []string{"refresh_token missing"}},
		"refresh, not JSON":             {"POST", "/auth/refresh", jsonType, `{`, "", 400, "malformed_json", nil},
		"refresh, a form":               {"POST", "/auth/refresh", formType, `refresh_token=x`, "", 415, "unsupported_content_type", nil},
		"refresh, too large":            {"POST", "/auth/refresh", jsonType, huge, "", 413, "body_too_large", nil},
		"logout":                        {"POST", "/auth/logout", "", "", leaving, 204, "", nil},
		"password, wrong":               {"POST", "/auth/me/password", jsonType, `{"current_password":"x","new_password":"violet-heron"}`, rep, 403, "wrong_password", nil},
		"password, right":               {"POST", "/auth/me/password", jsonType, `{"current_password":"tangerine-otter","new_password":"violet-heron"}`, rep, 204, "", nil},
		"password, common":              {"POST", "/auth/me/password", jsonType, `{"current_password":"x","new_password":"qwertyuiop"}`, rep, 422, "validation_error", []string{"new_password password_common"}},
		"password, nothing":             {"POST", "/auth/me/password", jsonType, `{}`, rep, 422, "validation_error", []string{"current_password missing", "new_password missing"}},
		"password, not JSON":            {"POST", "/auth/me/password", jsonType, `{`, rep, 400, "malformed_json", nil},
		"password, a form":              {"POST", "/auth/me/password", formType, `x=y`, rep, 415, "unsupported_content_type", nil},
		"password, too large":           {"POST", "/auth/me/password", jsonType, huge, rep, 413, "body_too_large", nil},
		"sessions":                      {"GET", "/auth/sessions", "", "", rep, 200, "", nil},
		"sessions, bad page":            {"GET", "/auth/sessions?limit=501&cursor=x&skip=-1", "", "", rep, 422, "validation_error", []string{"limit less_than_equal", "skip greater_than_equal"}},
		"sessions, bad cursor":          {"GET", "/auth/sessions?cursor=x", "", "", rep, 422, "validation_error", []string{"cursor value_error"}},
		"session of another":            {"DELETE", "/auth/sessions/" + ashasSession, "", "", rep, 403, "not_your_session", nil},
		"session that is none":          {"DELETE", "/auth/sessions/0192f0c1-5b7a-7c3e-9d55-0a4f1b2c3d4e", "", "", rep, 404, "session_not_found", nil},
		"session without an id":         {"DELETE", "/auth/sessions/x", "", "", rep, 422, "validation_error", []string{"id uuid_parsing"}},
		"agents":                        {"GET", "/agents?role=agent&is_active=true&q=Rao", "", "", asha, 200, "", nil},
		"agents, not an admin":          {"GET", "/agents", "", "", rep, 403, "admin_only", nil},
		"agents, bad filter":            {"GET", "/agents?role=boss&is_active=maybe", "", "", asha, 422, "validation_error", []string{"is_active bool_parsing", "role enum"}},
		"agent":                         {"GET", "/agents/" + ashaID, "", "", asha, 200, "", nil},
		"agent, not an admin":           {"GET", "/agents/" + ashaID, "", "", rep, 403, "admin_only", nil},
		"agent that is none":            {"GET", "/agents/0192f0c1-5b7a-7c3e-9d55-0a4f1b2c3d4e", "", "", asha, 404, "agent_not_found", nil},
		"agent without an id":           {"GET", "/agents/x", "", "", asha, 422, "validation_error", []string{"id uuid_parsing"}},
		"new agent":                     {"POST", "/agents", jsonType, `{"email":"gus@example.com","name":"Gus"}`, asha, 201, "", nil},
		"new agent, not an admin":       {"POST", "/agents", jsonType, `{"email":"hal@example.com","name":"Hal"}`, rep, 403, "admin_only", nil},
		"new agent, taken":              {"POST", "/agents", jsonType, `{"email":"asha@example.com","name":"Gus"}`, asha, 409, "email_taken", nil},
		"new agent, nothing":            {"POST", "/agents", jsonType, `{}`, asha, 422, "validation_error", []string{"email missing", "full_name missing"}},
		"new agent, everything wrong":   {"POST", "/agents", jsonType, `{"email":1,"name":"","role":"boss","is_active":"no","password":"short"}`, asha, 422, "validation_error", []string{"email string_type", "is_active bool_type", "name string_pattern_mismatch", "name string_too_short", "password string_too_short", "role enum"}},
		"new agent, common password":    {"POST", "/agents", jsonType, `{"email":"hal@example.com","name":"Hal","password":"sunshine"}`, asha, 422, "validation_error", []string{"password password_common"}},
		"new agent, not JSON":           {"POST", "/agents", jsonType, `[`, asha, 400, "malformed_json", nil},
		"new agent, a form":             {"POST", "/agents", formType, `x=y`, asha, 415, "unsupported_content_type", nil},
		"new agent, too large":          {"POST", "/agents", jsonType, huge, asha, 413, "body_too_large", nil},
		"change agent":                  {"PATCH", "/agents/" + ashaID, jsonType, `{"full_name":"Asha Rao"}`, asha, 200, "", nil},
		"change agent, not an admin":    {"PATCH", "/agents/" + ashaID, jsonType, `{"role":"agent"}`, rep, 403, "admin_only", nil},
		"change agent, last admin":      {"PATCH", "/agents/" + ashaID, jsonType, `{"role":"agent"}`, asha, 409, "last_admin", nil},
		"change agent, e-mail taken":    {"PATCH", "/agents/" + ashaID, jsonType, `{"email":"gone@example.com"}`, asha, 409, "email_taken", nil},
		"change agent that is none":     {"PATCH", "/agents/0192f0c1-5b7a-7c3e-9d55-0a4f1b2c3d4e", jsonType, `{}`, asha, 404, "agent_not_found", nil},
		"change agent, nulls":           {"PATCH", "/agents/" + ashaID, jsonType, `{"email":null,"is_active":null}`, asha, 422, "validation_error", []string{"email string_type", "is_active bool_type"}},
		"change agent, not JSON":        {"PATCH", "/agents/" + ashaID, jsonType, `no`, asha, 400, "malformed_json", nil},
		"change agent, a form":          {"PATCH", "/agents/" + ashaID, formType, `x=y`, asha, 415, "unsupported_content_type", nil},
		"change agent, too large":       {"PATCH", "/agents/" + ashaID, jsonType, huge, asha, 413, "body_too_large", nil},
		"keys":                          {"GET", "/.well-known/jwks.json", "", "", "", 200, "", nil},
		"unknown path":                  {"GET", "/auth/you", "", "", "", 404, "not_found", nil},
		"health":                        {"GET", "/health", "", "", "", 200, "", nil},
		"ready":                         {"GET", "/ready", "", "", "", 200, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := s.send(t, c.method, c.path, c.contentType, c.body, c.bearer)
			require.Equal(t, c.status, a.status, a.text)
			if c.status < 400 {
				return
			}
			require.Equal(t, c.code, a.body["code"])
			require.Equal(t, a.header.Get("X-Request-ID"), a.body["request_id"])
			if c.status == 422 {
				require.Equal(t, c.wrong, wrongFields(a))
			}
		})
	}
}

func wrongFields(a answer) (wrong []string) {
	for _, each := range a.body["detail"].([]any) {
		field := each.(map[string]any)
		wrong = append(wrong, fmt.Sprint(field["loc"].([]any)[1], " ", field["type"]))
	}
	slices.Sort(wrong)
	return wrong
}

func TestClosedRegistration(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *auth.Config) { c.Registration = "closed" })
	a := s.register(t, "asha@example.com")
	require.Equal(t, http.StatusForbidden, a.status)
	require.Equal(t, "registration_closed", a.body["code"])
}

func TestDatabaseThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register(t, "asha@example.com")
	bearer := s.token(t, "asha@example.com")
	conn, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `lock table agents, founding in access exclusive mode`)
	require.NoError(t, err)

	var all sync.WaitGroup
	for _, send := range []func() answer{
		func() answer { return s.register(t, "ben@example.com") },
		func() answer { return s.login(t, "asha@example.com", "tangerine-otter") },
		func() answer { return s.send(t, "GET", "/auth/me", "", "", bearer) },
		func() answer { return s.send(t, "PATCH", "/auth/me", jsonType, `{"full_name":"X"}`, bearer) },
	} {
		all.Go(func() {
			a := send()
			if a.status != http.StatusServiceUnavailable || a.body["code"] != "database_unavailable" || a.header.Get("Retry-After") == "" {
				t.Errorf("%d %s", a.status, a.text)
			}
		})
	}
	all.Wait()
}

func TestGolden(t *testing.T) {
	t.Parallel()
	s := start(t)
	registered := s.register(t, "asha@example.com")
	loggedIn := s.login(t, "asha@example.com", "tangerine-otter")
	bearer := loggedIn.body["access_token"].(string)
	golden(t, "register", registered)
	golden(t, "login", loggedIn)
	golden(t, "me", s.send(t, "GET", "/auth/me", "", "", bearer))
	golden(t, "update", s.send(t, "PATCH", "/auth/me", jsonType, `{"full_name":"Asha Iyer"}`, bearer))
	golden(t, "sessions", s.send(t, "GET", "/auth/sessions", "", "", bearer))
	golden(t, "agents", s.send(t, "GET", "/agents", "", "", bearer))
	golden(t, "created_agent", s.send(t, "POST", "/agents", jsonType, `{"email":"ben@example.com","full_name":"Ben","password":"violet-heron"}`, bearer))
	golden(t, "refresh", s.send(t, "POST", "/auth/refresh", jsonType, `{"refresh_token":"`+loggedIn.body["refresh_token"].(string)+`"}`, ""))
	golden(t, "jwks", s.send(t, "GET", "/.well-known/jwks.json", "", "", ""))
	golden(t, "invalid_credentials", s.login(t, "nobody@example.com", "tangerine-otter"))
}

// golden compares a body with its file after blanking what differs from run to run.
func golden(t *testing.T, name string, a answer) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name + ".json")
	require.NoError(t, err)
	var want any
	require.NoError(t, json.Unmarshal(raw, &want))
	var got any
	require.NoError(t, json.Unmarshal([]byte(a.text), &got))
	blank(got)
	require.Empty(t, cmp.Diff(want, got), "%s", a.text)
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
	registered := s.register(t, "asha@example.com")
	loggedIn := s.login(t, "asha@example.com", "tangerine-otter")
	require.Equal(t, "no-store", loggedIn.header.Get("Cache-Control"))
	require.EqualValues(t, 300, loggedIn.body["expires_in"])
	jwks := s.send(t, "GET", "/.well-known/jwks.json", "", "", "")
	require.Equal(t, "public, max-age=60", jwks.header.Get("Cache-Control"))

	keys := token.Fetch(s.url+"/.well-known/jwks.json", http.DefaultClient, telemetry.Nop())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { _ = keys.Run(ctx) }()
	require.Eventually(t, func() bool { return keys.Ready(ctx) == nil }, 5*time.Second, 5*time.Millisecond)

	text := loggedIn.body["access_token"].(string)
	caller, err := token.NewVerifier(keys.Key, clock.System{}).Verify(text)
	require.NoError(t, err)
	require.Equal(t, registered.body["id"], caller.AgentID)
	require.Equal(t, identity.Admin, caller.Role)
	later := clock.At(clock.System{}.Now().Add(6 * time.Minute))
	_, err = token.NewVerifier(keys.Key, later).Verify(text)
	require.ErrorContains(t, err, "token_expired")

	var agentID, userAgent, ip string
	s.query(t, `select agent_id::text, user_agent, ip from sessions where id = '`+caller.SessionID+`'`, &agentID, &userAgent, &ip)
	require.Equal(t, []string{caller.AgentID, "Convoflow for Android/2.1", "203.0.113.7"}, []string{agentID, userAgent, ip})
}

func TestStrangersAreAnsweredAlike(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register(t, "asha@example.com")
	wrong, unknown := s.login(t, "asha@example.com", "tangerine"), s.login(t, "nobody@example.com", "tangerine")
	for _, a := range []answer{wrong, unknown} {
		require.Equal(t, http.StatusUnauthorized, a.status)
		delete(a.body, "request_id")
	}
	require.Equal(t, wrong.body, unknown.body)
}

func TestOneAddressOneAccountOneAdmin(t *testing.T) {
	t.Parallel()
	database, brokers := pgtest.Schema(t), bustest.Broker(t)
	replicas := []service{replica(t, database, brokers), replica(t, database, brokers)}
	const each = 4
	answers := make(chan answer, 2*2*each)
	var all sync.WaitGroup
	for _, s := range replicas {
		for i := range each {
			all.Go(func() { answers <- s.register(t, "same@example.com") })
			all.Go(func() { answers <- s.register(t, fmt.Sprintf("agent%d-%s@example.com", i, s.url[len(s.url)-5:])) })
		}
	}
	all.Wait()
	close(answers)
	created, taken, admins := map[any]int{}, 0, 0
	for a := range answers {
		switch a.status {
		case http.StatusCreated:
			created[a.body["email"]]++
			if a.body["role"] == "admin" {
				admins++
			}
		case http.StatusConflict:
			taken++
		default:
			t.Errorf("%d %s", a.status, a.text)
		}
	}
	require.Equal(t, 1, created["same@example.com"])
	require.Equal(t, 2*each-1, taken)
	require.Len(t, created, 2*each+1)
	require.Equal(t, 1, admins)

	require.Equal(t, replicas[0].send(t, "GET", "/.well-known/jwks.json", "", "", "").text,
		replicas[1].send(t, "GET", "/.well-known/jwks.json", "", "", "").text)
	caller := replicas[0].token(t, "same@example.com")
	require.Equal(t, http.StatusOK, replicas[1].send(t, "GET", "/auth/me", "", "", caller).status, "a token of one replica is good at the other")
}

func TestEventsReachKafka(t *testing.T) {
	t.Parallel()
	s := start(t)
	registered := s.register(t, "asha@example.com")
	s.send(t, "PATCH", "/auth/me", jsonType, `{"full_name":"Asha Iyer"}`, s.token(t, "asha@example.com"))

	var types []string
	var last events.Agent
	for _, m := range bustest.Read(t, s.brokers, events.AgentsTopic, 2) {
		require.Equal(t, registered.body["id"], string(m.Key))
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
	cfg := settings(s.database, s.brokers)
	cfg.SecretKey = "an0ther-One-0f-thirty-two-lettersX"
	_, err := auth.New(t.Context(), cfg, telemetry.Nop())
	require.ErrorContains(t, err, "SECRET_KEY does not open the signing keys")
	var keys int
	s.query(t, `select count(*) from signing_keys`, &keys)
	require.Equal(t, 2, keys)
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
}
