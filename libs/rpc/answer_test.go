package rpc_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/rpc"
)

// untouched is a body that must not be read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestTheBodyOfAnUnauthenticatedRequestIsNotRead(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for _, header := range []string{"", "Bearer nobody"} {
		for _, target := range []string{"/things", "/upload"} {
			w := s.do(t, request{method: "POST", target: target, reader: untouched{t}, header: with("Authorization", header)})
			require.Equal(t, http.StatusUnauthorized, w.Code)
			require.Equal(t, `Bearer realm="convoflow"`, w.Header().Get("WWW-Authenticate"))
			require.JSONEq(t, `{"code":"not_authenticated","detail":"Log in","request_id":"`+w.Header().Get("X-Request-Id")+`"}`, w.Body.String())
		}
	}
}

func TestAdminOperations(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	w := s.do(t, request{method: "DELETE", target: "/things/" + thingID})
	require.Equal(t, http.StatusForbidden, w.Code)
	require.Contains(t, w.Body.String(), "admin_only")
	w = s.do(t, request{method: "DELETE", target: "/things/" + thingID, header: with("Authorization", "Bearer "+adminToken)})
	require.Equal(t, http.StatusNoContent, w.Code)
	require.Empty(t, w.Body.String())
}

func TestPathsAndMethods(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	tests := []struct {
		method, target string
		status         int
		allow          string
	}{
		{"GET", "/things/", 200, ""},
		{"GET", "/things///", 200, ""},
		{"GET", "/things/" + thingID + "/?x=1", 200, ""},
		{"HEAD", "/things", 200, ""},
		{"POST", "/things/", 201, ""},
		{"GET", "/", 404, ""},
		{"GET", "/thing", 404, ""},
		{"GET", "/things/" + thingID + "/parts", 404, ""},
		{"GET", "/things/../things", 404, ""},
		{"GET", "//things", 404, ""},
		{"PUT", "/things", 405, "GET, HEAD, POST"},
		{"OPTIONS", "/things", 405, "GET, HEAD, POST"},
		{"BREW", "/things/" + thingID + "/", 405, "GET, HEAD, PATCH, DELETE"},
		{"GET", "/login", 405, "POST"},
		{strings.Repeat("BREW", 1000), "/login", 405, "POST"},
	}
	for _, tt := range tests {
		w := s.do(t, request{method: tt.method, target: "http://x" + tt.target, body: `{"name":"a","size":1}`})
		require.Equal(t, tt.status, w.Code, "%s %s: %s", tt.method, tt.target, w.Body)
		require.Equal(t, tt.allow, w.Header().Get("Allow"), "%s %s", tt.method, tt.target)
		if tt.status >= 400 {
			var body struct{ Code, Detail string }
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
			require.LessOrEqual(t, len(body.Detail), 60, "an error does not quote a long method")
			require.Equal(t, map[int]string{404: "not_found", 405: "method_not_allowed"}[tt.status], body.Code)
			require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		}
	}
}

func TestAnUnchangedObjectIsNotSentAgain(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	target := "/things/" + thingID
	first := s.do(t, request{method: "GET", target: target})
	tag := first.Header().Get("ETag")
	require.Regexp(t, `^W/"[0-9a-f]{24}"$`, tag)
	require.Equal(t, "private, no-cache", first.Header().Get("Cache-Control"))
	require.NotEmpty(t, first.Header().Get("Content-Length"))
	require.Equal(t, tag, s.do(t, request{method: "HEAD", target: target}).Header().Get("ETag"))
	for header, status := range map[string]int{tag: 304, strings.TrimPrefix(tag, "W/"): 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200, "": 200, tag + "x": 200} {
		w := s.do(t, request{method: "GET", target: target, header: with("If-None-Match", header)})
		require.Equal(t, status, w.Code, header)
		require.Equal(t, status == 304, w.Body.Len() == 0)
		require.Equal(t, tag, w.Header().Get("ETag"))
	}
	w := s.do(t, request{method: "POST", target: "/things", body: `{"name":"a","size":1}`, header: with("If-None-Match", "*")})
	require.Equal(t, 201, w.Code, "only for reads")
	require.Empty(t, w.Header().Get("ETag"))
}

func TestAListLinksToItsNextPage(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	require.Empty(t, s.do(t, request{method: "GET", target: "/things?limit=5"}).Header().Get("Link"), "the last page")
	require.Equal(t, "[]", s.do(t, request{method: "GET", target: "/things?kind=small"}).Body.String(), "an empty list is a list")
	w := s.do(t, request{method: "GET", target: "/things/?limit=5&q=a%26b+%3E%3B&cursor=" + url.QueryEscape(`a>"; b`) + "&skip=3"})
	require.Equal(t, 200, w.Code, w.Body)
	link, rel, ok := strings.Cut(w.Header().Get("Link"), ">; ")
	require.True(t, ok)
	require.Equal(t, `rel="next"`, rel)
	next, err := url.Parse(strings.TrimPrefix(link, "<"))
	require.NoError(t, err)
	require.Equal(t, "/things", next.Path)
	require.Equal(t, url.Values{"limit": {"5"}, "q": {"a&b >;"}, "cursor": {`a>"; b`}}, next.Query())
	require.Equal(t, 200, s.do(t, request{method: "GET", target: next.String()}).Code)
}

func TestErrorsOfAMethod(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status     int
		code       string
		retryAfter string
		logged     string
	}{
		"panic":         {500, "internal_error", "", "secret of the panic"},
		"view%20panic":  {500, "internal_error", "", "secret of the view"},
		"unknown":       {500, "internal_error", "", "secret of the error"},
		"unmarshalable": {500, "internal_error", "", "unsupported type: chan int"},
		"unavailable":   {503, "database_unavailable", "2", "conn closed"},
		"slow":          {504, "timeout", "1", "context deadline exceeded"},
		"limited":       {429, "too_many", "60", "too_many"},
		"conflict":      {409, "exists", "", "exists"},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := start(t, nil)
			w := s.do(t, request{method: "GET", target: "/trouble/" + what, header: with("If-None-Match", "*")})
			require.Equal(t, tt.status, w.Code, w.Body)
			require.Equal(t, tt.retryAfter, w.Header().Get("Retry-After"))
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			require.Empty(t, w.Header().Get("ETag"))
			var body map[string]any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
			require.Equal(t, tt.code, body["code"])
			require.Equal(t, w.Header().Get("X-Request-Id"), body["request_id"])
			require.NotContains(t, w.Body.String(), "secret")
			require.NotContains(t, w.Body.String(), "goroutine")
			require.Contains(t, s.log.String(), tt.logged)
			if what == "conflict" {
				require.Equal(t, "x", body["client_id"])
			}
		})
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	for sent, accepted := range map[string]bool{
		"01935c5e-0000-7000-8000-000000000001": true, "abc_DEF-1": true, strings.Repeat("a", 64): true,
		"": false, "short": false, strings.Repeat("a", 65): false, "with space": false, "new\nline9": false, "<script>": false, "ünïcödé1": false,
	} {
		got := s.do(t, request{method: "GET", target: "/things", header: http.Header{"X-Request-Id": {sent}}}).Header().Get("X-Request-Id")
		require.Equal(t, accepted, got == sent, sent)
		require.Equal(t, got, rpc.CleanRequestID(got), "a new id is safe too")
	}
	require.Empty(t, rpc.RequestID(t.Context()))

	for sent, want := range map[string]string{"exchange-1": "exchange-1", "": "", "<script>": ""} {
		for _, target := range []string{"/things", "/nowhere"} {
			got := s.do(t, request{method: "GET", target: target, header: http.Header{rpc.ExchangeIDHeader: {sent}}}).Header()
			require.Equal(t, want, got.Get(rpc.ExchangeIDHeader), target)
		}
	}
}

func TestErrorsOutsideARouter(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	w.Header().Set("X-Request-Id", "from-the-gateway")
	rpc.WriteError(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), fault.New(fault.TooLarge, "too_large", "Too large"))
	require.Equal(t, 413, w.Code)
	require.JSONEq(t, `{"code":"too_large","detail":"Too large","request_id":"from-the-gateway"}`, w.Body.String())
}

// memory is a IdempotencyStore that stores responses in memory.
type memory map[string]json.RawMessage

func (m memory) Once(ctx context.Context, operation, key string, fingerprint []byte, do func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
	key = operation + " " + key + " " + string(fingerprint)
	if answer, ok := m[key]; ok {
		return answer, nil
	}
	answer, err := do(ctx)
	if err == nil {
		m[key] = answer
	}
	return answer, err
}

func TestARepeatedRequestGetsTheFirstResponse(t *testing.T) {
	t.Parallel()
	m := memory{}
	s := start(t, m)
	id := event.NewID()
	send := func(key, body string) *httptest.ResponseRecorder {
		return s.do(t, request{method: "POST", target: "/things", body: body, header: with("Idempotency-Key", key)})
	}
	first, again := send(id, `{"name":"a","size":1}`), send(id, `{"name":"a","size":1}`)
	require.Equal(t, 201, first.Code, first.Body)
	require.Equal(t, 201, again.Code)
	require.Equal(t, first.Body.String(), again.Body.String())
	require.Equal(t, "application/json", again.Header().Get("Content-Type"))
	require.Len(t, m, 1)
	send(id, `{"name":"b","size":1}`)
	require.Len(t, m, 2, "the body is part of the fingerprint")
	require.Equal(t, 422, send(id, `{}`).Code)
	require.Equal(t, 201, send("", `{"name":"a","size":1}`).Code)
	require.Len(t, m, 2, "neither an invalid request nor one without a key is stored")
}
