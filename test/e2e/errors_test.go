package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

const missingID = "019abf00-0000-7000-8000-000000000000"

// operation is an operation of the contract, with a valid request.
type operation struct {
	*openapi3.Operation
	method, path string // the path with {id}
	sends        any    // the least that is accepted, nil for none
}

// body returns a new body to send: a form can be read only once.
func (o operation) body() any {
	if _, isForm := o.sends.(*form); isForm {
		return recording("x.ogg", strings.NewReader("x"), 1, nil)
	}
	return o.sends
}

// nowhere is a URL of a receiver where nobody listens.
const nowhere = "https://127.0.0.1:1/hook"

func (o operation) access() string { return fmt.Sprint(o.Extensions["x-access"]) }

// at returns the path with an id, if it has one.
func (o operation) at(id string) string {
	if !o.hasID() {
		return o.path
	}
	before, rest, _ := strings.Cut(o.path, "{")
	_, after, _ := strings.Cut(rest, "}")
	return before + id + after
}

func (o operation) hasID() bool { return strings.Contains(o.path, "{") }

// operations returns all operations of the contract.
func operations(t *testing.T) (all []operation) {
	t.Helper()
	doc, err := document()
	require.NoError(t, err)
	bodies := map[string]any{
		"POST /auth/refresh":       map[string]any{"refresh_token": "x"},
		"PATCH /auth/me":           map[string]any{"full_name": "Somebody"},
		"POST /auth/me/password":   map[string]any{"current_password": "x", "new_password": "correct horse"},
		"POST /agents":             map[string]any{"email": "y@example.com", "full_name": "Y"},
		"PATCH /agents/{}":         map[string]any{"full_name": "Y"},
		"POST /clients":            map[string]any{"name": "Somebody"},
		"PUT /clients/{}":          map[string]any{"name": "Somebody"},
		"PATCH /clients/{}":        map[string]any{"notes": "later"},
		"POST /clients/{}/merge":   map[string]any{"into": "019abf00-0000-7000-8000-000000000001"},
		"POST /leads":              map[string]any{"name": "Somebody", "phone": "98200 12345"},
		"PATCH /leads/{}":          map[string]any{"notes": "later"},
		"POST /leads/bulk":         map[string]any{"lead_ids": []string{missingID}, "action": "change_status", "status": "contacted"},
		"POST /leads/inbound":      map[string]any{"phone": "98200 12345"},
		"POST /leads/import":       &form{},
		"PUT /settings/{}":         map[string]any{"value": "Asia/Kolkata"},
		"POST /followups":          followUpBody(missingID),
		"POST /followups/{}":       map[string]any{"task": "Call"},
		"PUT /followups/{}":        map[string]any{"due_date": "2031-05-06T07:08:00Z"},
		"PATCH /followups/{}":      map[string]any{"task": "Call"},
		"POST /auth/register":      map[string]any{"email": "x@example.com", "password": "correct horse", "full_name": "X"},
		"POST /calls/upload":       &form{},
		"POST /calls":              map[string]any{"call_tag": "connected"},
		"PATCH /calls/{}":          map[string]any{"title": "Price talk"},
		"PATCH /calls/{}/lead":     map[string]any{"lead_id": nil},
		"POST /calls/{}/retry":     map[string]any{},
		"PUT /calls/{}/legal-hold": map[string]any{"legal_hold": false},
		"POST /webhooks":           map[string]any{"url": nowhere, "enabled": false, "events": []string{"followup.due"}},
		"PATCH /webhooks/{}":       map[string]any{"description": "quotes"},
		"POST /webhooks/{}/test":   map[string]any{"event": "followup.due"},

		"POST /webhooks/deliveries/replay": map[string]any{"status": "dead", "dry_run": true},
		"POST /webhooks/{}/rotate-secret":  map[string]any{"overlap_hours": 1},
		"POST /console/session":            map[string]any{"email": "x@example.com", "password": "x"},
		"POST /auth/login":                 url.Values{"username": {"x@example.com"}, "password": {"x"}},
	}
	for path, item := range doc.Paths.Map() {
		for method, described := range item.Operations() {
			o := operation{Operation: described, method: method, path: path}
			if described.RequestBody != nil {
				body, known := bodies[method+" "+regexp.MustCompile(`{\w+}`).ReplaceAllString(path, "{}")]
				require.True(t, known, "a body for %s %s in this table", method, path)
				o.sends = body
			}
			all = append(all, o)
		}
	}
	require.NotEmpty(t, all)
	return all
}

// TestErrors calls every operation with every kind of client error. The transport of the agents validates each response against
// the common error schema and the contract, and requires that it reveals nothing internal.
func TestErrors(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, append(f.settings(), "PABBLY_INBOUND_SECRET="+inboundSecret)...)
	s.start()
	admin, owner, other := s.newAgent(), s.newAgent(), s.newAgent()
	who, lead := owner.newClient(), owner.newLead()
	theirs := owner.completed(owner.upload(map[string]string{"client_id": who.ID}).ID)
	var planned followUp
	owner.post("/followups", followUpBody(theirs.ID)).must(http.StatusCreated).into(&planned)
	session := owner.ids("/auth/sessions")[0]
	erasure := owner.do(http.MethodDelete, "/clients/"+owner.newClient().ID, nil).must(http.StatusNoContent).header.Get("Erasure-Id")
	imported := owner.newImport()
	object := func(op operation) string { // of the owner
		switch {
		case strings.HasPrefix(op.path, "/leads/imports/"):
			return imported
		case strings.HasPrefix(op.path, "/erasures/"):
			return erasure
		case strings.HasPrefix(op.path, "/clients/"):
			return who.ID
		case strings.HasPrefix(op.path, "/leads/"):
			return lead
		case strings.HasPrefix(op.path, "/auth/sessions/"):
			return session
		case strings.HasPrefix(op.path, "/followups/") && op.method != http.MethodPost:
			return planned.ID
		default: // the id of POST /followups/{id} is the call's too
			return theirs.ID
		}
	}

	for _, op := range operations(t) {
		t.Run(op.method+" "+op.path, func(t *testing.T) {
			s := s.in(t)
			anonymous, other, admin := s.anonymous(), s.as(other), s.as(admin)
			switch op.access() {
			case "anyone":
			case "signed":
				anonymous.do(op.method, op.path, op.body()).refused(http.StatusUnauthorized, "not_signed")
			case "admin":
				anonymous.do(op.method, op.at(missingID), op.body()).must(http.StatusUnauthorized)
				other.do(op.method, op.at(missingID), op.body()).must(http.StatusForbidden)
			case "agent", "link":
				require.NotEmpty(t, anonymous.do(op.method, op.at(missingID), op.body()).must(http.StatusUnauthorized).header.Get("WWW-Authenticate"))
				anonymous.token = "eyJhbGciOiJub25lIn0.e30."
				anonymous.do(op.method, op.at(missingID), op.body()).must(http.StatusUnauthorized)
			default:
				t.Fatalf("x-access is %q", op.access())
			}
			if op.hasID() && op.OperationID != "notify.verify" { // which answers 200 about every id
				for _, id := range []string{missingID, "not-a-uuid"} {
					got := admin.do(op.method, op.at(id), op.body()).must(http.StatusNotFound)
					require.NotContains(t, string(got.body), `"not_found"`, "the code names what is missing")
				}
			}
			if op.access() == "agent" && policies[op.OperationID].agent[1] == http.StatusForbidden && op.hasID() {
				other.do(op.method, op.at(object(op)), op.body()).must(http.StatusForbidden)
			}
			if op.sends != nil {
				wrongBodies(t, s, admin, op)
			}
			got := admin.do(http.MethodTrace, op.at(missingID), nil).refused(http.StatusMethodNotAllowed, "method_not_allowed")
			require.Contains(t, got.header.Get("Allow"), op.method)
		})
	}
	t.Run("a path that does not exist", func(t *testing.T) {
		s.in(t).as(admin).get("/nothing/here").refused(http.StatusNotFound, "not_found")
	})
	t.Run("every wrong field at once", func(t *testing.T) { wrongFields(t, s.in(t), s.in(t).as(owner)) })
	t.Run("conflicts", func(t *testing.T) { conflicts(t, s, s.in(t).as(owner), who, theirs) })
}

func wrongBodies(t *testing.T, s *stack, a *agent, op operation) {
	t.Helper()
	send := func(body, contentType string) answer {
		headers := []string{"Content-Type", contentType}
		if op.access() == "signed" {
			headers = append(headers, "X-Pabbly-Signature", signature(body, inboundSecret))
		}
		return a.do(op.method, op.at(missingID), strings.NewReader(body), headers...)
	}
	send("what is this", "text/plain").refused(http.StatusUnsupportedMediaType, "unsupported_content_type")
	switch op.sends.(type) {
	case *form:
		send("no parts", "multipart/form-data; boundary=x").must(http.StatusBadRequest)
		send("no parts", "multipart/form-data").must(http.StatusBadRequest)
	case url.Values:
		send("%zz", "application/x-www-form-urlencoded").must(http.StatusBadRequest)
	default:
		send("{", "application/json").refused(http.StatusBadRequest, "malformed_json")
		send(`{"a":"`+strings.Repeat("x", 2<<20)+`"}`, "application/json").must(http.StatusRequestEntityTooLarge)
		send("[]", "application/json").refused(http.StatusUnprocessableEntity, "validation_error")
	}
}

func wrongFields(t *testing.T, s *stack, a *agent) {
	silence := recording("x.ogg", strings.NewReader(""), 0, map[string]string{
		"client_id": "x", "lead_id": "y", "call_type": "z", "call_tag": "busy", "language": "klingon", "duration_seconds": "long", "recorded_at": "then",
	})
	for _, wrong := range []struct {
		method, path string
		body         any
		fields       []string
	}{
		{http.MethodPost, "/auth/register", map[string]any{"email": "nope", "password": "short"}, []string{"body.email", "body.full_name", "body.password"}},
		{http.MethodPost, "/auth/login", url.Values{"user": {"x"}}, []string{"body.password", "body.username"}},
		{http.MethodPost, "/clients", map[string]any{"name": "", "email": "nope", "phone": 5}, []string{"body.email", "body.name", "body.phone"}},
		{http.MethodPost, "/clients", map[string]any{"name": "X", "phone": "12"}, []string{"body.phone"}},
		{http.MethodPost, "/followups", map[string]any{"call_id": "x", "due_date": "soon", "task": 7}, []string{"body.call_id", "body.due_date", "body.task"}},
		{http.MethodGet, "/calls?status=gone&limit=501&from=then", nil, []string{"query.from", "query.limit", "query.status"}},
		{http.MethodGet, "/followups?completed=maybe&call_id=x", nil, []string{"query.call_id", "query.completed"}},
		{http.MethodPost, "/calls/upload", silence, []string{
			"body.audio", "body.call_tag", "body.call_type", "body.client_id", "body.duration_seconds", "body.language", "body.lead_id", "body.recorded_at",
		}},
	} {
		got := a.do(wrong.method, wrong.path, wrong.body).refused(http.StatusUnprocessableEntity, "validation_error")
		require.Equal(t, wrong.fields, slices.Compact(got.fields()), "%s %s: %s", wrong.method, wrong.path, got.body)
	}
}

func conflicts(t *testing.T, s *stack, a *agent, who client, c call) {
	t.Helper()
	a.post("/auth/register", map[string]any{"email": strings.ToUpper(a.email), "password": a.password, "full_name": "Again"}).must(http.StatusConflict)
	a.post("/auth/login", url.Values{"username": {a.email}, "password": {"not this one"}}).refused(http.StatusUnauthorized, "invalid_credentials")
	a.post("/auth/login", url.Values{"username": {"nobody@example.com"}, "password": {"not this one"}}).refused(http.StatusUnauthorized, "invalid_credentials")

	twice := a.post("/clients", map[string]any{"name": "Twin", "phone": who.Phone}).refused(http.StatusConflict, "client_exists")
	require.Contains(t, string(twice.body), who.ID)

	a.post("/followups", followUpBody(c.ID), "Idempotency-Key", "one").must(http.StatusCreated)
	a.post("/followups", map[string]any{"call_id": c.ID, "due_date": "2032-01-01T00:00:00Z"}, "Idempotency-Key", "one").refused(http.StatusConflict, "idempotency_key_reused")
	a.post("/followups", followUpBody(missingID)).refused(http.StatusNotFound, "call_not_found")

	gate := s.openai.Block("/v1/audio/transcriptions")
	busy := a.upload(map[string]string{"client_id": who.ID})
	gate.Wait(t)
	a.post("/calls/"+busy.ID+"/retry", map[string]any{}).refused(http.StatusConflict, "call_busy")
	gate.Release()
	a.completed(busy.ID)
	a.post("/calls/"+busy.ID+"/retry", map[string]any{"language": "de"}).must(http.StatusAccepted)
	a.completed(busy.ID)
}
