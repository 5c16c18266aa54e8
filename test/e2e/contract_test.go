package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api"
)

// uuid is the pattern of RFC 9562; the library's own is that of RFC 4122 and knows no version 7.
const uuid = `^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`

// contract is a transport that validates every request and response against the OpenAPI document: the operation must define the
// response, and the document must allow each accepted request. A violation is an error of the test, not of the request.
type contract struct {
	t        testing.TB
	router   routers.Router
	next     http.RoundTripper
	anything bool // may be accepted: a service accepts more than the document says, such as times with a space instead of T
}

// document is the contract of the whole platform, and paths finds the operation of a request in it.
var (
	document = sync.OnceValues(func() (*openapi3.T, error) {
		raw, err := api.Merged("test")
		if err != nil {
			return nil, err
		}
		return openapi3.NewLoader().LoadFromData(raw)
	})
	paths = sync.OnceValues(func() (routers.Router, error) {
		doc, err := document()
		if err != nil {
			return nil, err
		}
		return gorillamux.NewRouter(doc)
	})
)

func newContract(t testing.TB) *contract {
	t.Helper()
	router, err := paths()
	require.NoError(t, err, "the OpenAPI document")
	return &contract{t: t, router: router, next: http.DefaultTransport}
}

// RoundTrip sends the request. It reads JSON responses into memory; others are streamed. Of server-sent events, which may never end, the
// response is only the beginning.
func (c *contract) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	isForm := strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/")
	if r.Body != nil && !isForm {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	response, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	var got []byte
	isJSON := response.Header.Get("Content-Type") == "application/json"
	if isJSON {
		if got, err = io.ReadAll(response.Body); err != nil {
			return nil, err
		}
		_ = response.Body.Close()
		response.Body = io.NopCloser(bytes.NewReader(got))
	}
	if response.Header.Get("Content-Type") == "text/event-stream" {
		begin := make([]byte, 1<<10)
		n, _ := response.Body.Read(begin)
		_ = response.Body.Close()
		response.Body = io.NopCloser(bytes.NewReader(begin[:n]))
	}
	checked := r.Clone(r.Context())
	checked.Body = io.NopCloser(bytes.NewReader(sent))
	exchange := fingerprint(r, sent, response, got)
	if _, known := right.Load(exchange); known {
		return response, nil
	}
	wrongs := c.check(checked, response, got, isForm, isJSON)
	for _, wrong := range wrongs {
		c.t.Errorf("%s %s → %d: %v\nsent: %.2000s\ngot: %.2000s", r.Method, r.URL.Path, response.StatusCode, wrong, sent, got)
	}
	if len(wrongs) == 0 {
		right.Store(exchange, true)
	}
	return response, nil
}

// right has the fingerprints of the exchanges that the contract allows: who polls receives the same again and again, and the library
// compiles a schema for each response.
var right sync.Map

// fingerprint is the SHA-256 of all that is validated of an exchange. What the response to a form depends on is not in memory, and is in
// the response.
func fingerprint(r *http.Request, sent []byte, response *http.Response, got []byte) [sha256.Size]byte {
	header := response.Header.Clone()
	header.Del("Date")
	if header.Get("X-Request-ID") != "" {
		header.Set("X-Request-ID", "is there")
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s %s %v\n%d %v\n%d\n", r.Method, r.URL, r.Header["Content-Type"], response.StatusCode, header, len(sent))
	_, _ = h.Write(sent)
	_, _ = h.Write(got)
	return [sha256.Size]byte(h.Sum(nil))
}

func (c *contract) check(r *http.Request, response *http.Response, body []byte, isForm, isJSON bool) (wrong []error) {
	if response.Header.Get("X-Request-ID") == "" {
		wrong = append(wrong, fmt.Errorf("no X-Request-ID"))
	}
	if response.StatusCode >= http.StatusBadRequest {
		wrong = append(wrong, checkError(response, body)...)
	}
	path := *r.URL
	if path.Path = strings.TrimRight(path.Path, "/"); path.Path != "" {
		r.URL = &path // a trailing slash does not change the path
	}
	route, parameters, err := c.router.FindRoute(r)
	if err != nil {
		if s := response.StatusCode; s != http.StatusNotFound && s != http.StatusMethodNotAllowed {
			wrong = append(wrong, fmt.Errorf("not in the contract: %w", err))
		}
		return wrong
	}
	formats := []openapi3.SchemaValidationOption{openapi3.WithStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(uuid))}
	request := &openapi3filter.RequestValidationInput{
		Request: r, Route: route, PathParams: parameters,
		Options: &openapi3filter.Options{
			MultiError: true, ExcludeRequestBody: isForm, SkipSettingDefaults: true, SchemaValidationOptions: formats,
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
		},
	}
	if response.StatusCode < http.StatusBadRequest && !c.anything {
		if err := openapi3filter.ValidateRequest(r.Context(), request); err != nil {
			wrong = append(wrong, fmt.Errorf("accepted what the contract does not allow: %w", err))
		}
	}
	if err := openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request, Status: response.StatusCode, Header: response.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{
			MultiError: true, IncludeResponseStatus: true, ExcludeResponseBody: !isJSON, SchemaValidationOptions: formats,
		},
	}); err != nil {
		wrong = append(wrong, fmt.Errorf("answered what the contract does not promise: %w", err))
	}
	return wrong
}

// internals must never reach a client: names of components, SQL statements, stack traces, files.
var internals = regexp.MustCompile(`(?i)pgx|sqlstate|postgres|kafka|river|goroutine|panic|\.go:\d|/tmp/|/work/|/root/|/home/|127\.0\.0\.1|localhost|select .* from|dial tcp|context (canceled|deadline)`)

// checkError validates an error response against the common schema.
func checkError(response *http.Response, body []byte) (wrong []error) {
	if response.Request.URL.Path == "/ready" {
		return nil
	}
	var got problem
	if err := json.Unmarshal(body, &got); err != nil {
		return []error{fmt.Errorf("an error that is not JSON: %w", err)}
	}
	if got.Code == "" || len(got.Detail) == 0 || got.RequestID == "" {
		wrong = append(wrong, fmt.Errorf("an error without detail, code or request_id"))
	}
	if got.RequestID != response.Header.Get("X-Request-ID") {
		wrong = append(wrong, fmt.Errorf("request_id %q is not the X-Request-ID %q", got.RequestID, response.Header.Get("X-Request-ID")))
	}
	if response.StatusCode >= http.StatusInternalServerError && response.StatusCode < http.StatusBadGateway {
		wrong = append(wrong, fmt.Errorf("a %d is never right", response.StatusCode))
	}
	if found := internals.FindString(string(body)); found != "" {
		wrong = append(wrong, fmt.Errorf("%q is internal", found))
	}
	return wrong
}

func TestContractSeesDifferences(t *testing.T) {
	t.Parallel()
	c := newContract(t)
	const agent = `{"id":"019abf00-0000-7000-8000-000000000000","email":"a@example.com","full_name":"A","name":"A","role":"agent","is_active":true,"created_at":"2026-11-24T09:30:00Z"}`
	for name, exchange := range map[string]struct {
		method, path, sent string
		status             int
		got                string
		wrong              string // "" for nothing
	}{
		"as it should be":          {"GET", "/auth/me", "", 200, agent, ""},
		"slash at the end":         {"GET", "/auth/me/", "", 200, agent, ""},
		"no field":                 {"GET", "/auth/me", "", 200, strings.Replace(agent, `"is_active":true,`, "", 1), "is_active"},
		"no UUID":                  {"GET", "/auth/me", "", 200, strings.Replace(agent, "-7000-", "-0000-", 1), "id"},
		"status not promised":      {"GET", "/auth/me", "", 202, agent, "status is not supported"},
		"path not promised":        {"GET", "/auth/you", "", 200, agent, "not in the contract"},
		"accepted too much":        {"PATCH", "/auth/me", `{"full_name":""}`, 200, agent, "accepted"},
		"error without request id": {"GET", "/auth/me", "", 401, `{"detail":"No","code":"no"}`, "request_id"},
		"error with a stack":       {"GET", "/auth/me", "", 401, `{"detail":"goroutine 1","code":"no","request_id":"r"}`, "internal"},
		"server error":             {"GET", "/auth/me", "", 500, `{"detail":"No","code":"no","request_id":"r"}`, "never right"},
	} {
		request := httptest.NewRequestWithContext(t.Context(), exchange.method, exchange.path, strings.NewReader(exchange.sent))
		request.Header.Set("Content-Type", "application/json")
		response := &http.Response{
			StatusCode: exchange.status, Request: request,
			Header: http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {"r"}},
		}
		got := errors.Join(c.check(request, response, []byte(exchange.got), false, true)...)
		if exchange.wrong == "" {
			require.NoError(t, got, name)
			continue
		}
		require.ErrorContains(t, got, exchange.wrong, name)
	}
}
