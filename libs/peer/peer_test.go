package peer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/telemetry"
)

type call struct {
	ID string `json:"id"`
}

func caller(ctx context.Context) context.Context {
	return identity.With(ctx, identity.Caller{AgentID: "a", Token: "the-token"})
}

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return New("calls", server.URL+"/", telemetry.Nop())
}

func TestResponsesOfTheOtherServiceBecomeFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer http.HandlerFunc
		kind   fault.Kind
		code   string
	}{
		"403":         {respond(403, `{"code":"call_forbidden","detail":"Somebody else's"}`), fault.Forbidden, "call_forbidden"},
		"404":         {respond(404, `{"code":"call_not_found","detail":"No such call","request_id":"x"}`), fault.NotFound, "call_not_found"},
		"401":         {respond(401, `{"code":"token_expired"}`), fault.Unavailable, "service_unavailable"}, // the caller was admitted here
		"404 as HTML": {respond(404, `<html>`), fault.NotFound, ""},
		"500":         {respond(500, `{"code":"internal_error","detail":"secret"}`), fault.Unavailable, "service_unavailable"},
		"503":         {respond(503, ``), fault.Unavailable, "service_unavailable"},
		"429":         {respond(429, ``), fault.Unavailable, "service_unavailable"},
		"garbage":     {respond(200, `<html>`), fault.Unavailable, "service_unavailable"},
		"too long":    {respond(200, `{"id":"`+strings.Repeat("x", maxAnswer)+`"}`), fault.Unavailable, "service_unavailable"},
		"truncated": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"id":`)
		}, fault.Unavailable, "service_unavailable"},
		"aborted":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, fault.Unavailable, "service_unavailable"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, fault.Unavailable, "service_unavailable"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got call
			err := serve(t, tt.answer).Get(caller(t.Context()), "/calls/1", &got)
			f := fault.Of(err)
			require.Equal(t, tt.kind, f.Kind, err)
			require.Equal(t, tt.code, f.Code)
			require.NotContains(t, f.Detail, "secret")
			require.Equal(t, tt.kind == fault.Unavailable, f.RetryAfter > 0)
			require.Empty(t, got)
		})
	}
}

func respond(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestTheTokenTraceAndRequestIDAreForwarded(t *testing.T) {
	t.Parallel()
	tel := telemetry.Nop()
	var sent http.Header
	var path string
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent, path = r.Header, r.URL.Path
		_, _ = io.WriteString(w, `{"id":"1","unknown":true}`)
	})
	// Only a request has a request id.
	chain, err := op.NewChain(tel, pg.Classify)
	require.NoError(t, err)
	authenticate := func(*http.Request) (identity.Caller, error) {
		return identity.Caller{AgentID: "a", Token: "the-token"}, nil
	}
	router, err := rpc.NewRouter([]byte(`{"paths":{"/ask":{"get":{"operationId":"crm.ask","x-access":"agent"}}}}`), chain, authenticate, nil, tel)
	require.NoError(t, err)
	var trace string
	rpc.Handle(router, "GET /ask", "crm.ask", func(ctx context.Context, _ struct{}) (call, error) {
		trace = telemetry.TraceID(ctx)
		var got call
		return got, client.Get(ctx, "calls/1", &got)
	})
	api, err := router.Handler()
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ask", nil)
	r.Header.Set(rpc.RequestIDHeader, "the-request")
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	require.Equal(t, 200, w.Code, w.Body)
	require.Equal(t, "/calls/1", path)
	require.Equal(t, "Bearer the-token", sent.Get("Authorization"))
	require.Equal(t, "the-request", sent.Get(rpc.RequestIDHeader))
	require.NotEmpty(t, trace)
	require.Contains(t, sent.Get("Traceparent"), trace)
}

func TestACallWithoutACallerIsRefused(t *testing.T) {
	t.Parallel()
	client := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("sent a request without a caller") })
	require.True(t, fault.Is(client.Get(t.Context(), "/calls/1", &call{}), fault.Unauthenticated))
}

// transport replaces the network, in virtual time.
type transport struct {
	calls  atomic.Int32
	answer func(r *http.Request) (*http.Response, error)
}

func (tr *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	tr.calls.Add(1)
	return tr.answer(r)
}

func fine(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"id":"1"}`))}, nil
}

func refuse(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestAServiceThatHangsOpensTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &transport{answer: hang}
		client := New("calls", "http://calls", telemetry.Nop())
		client.http.Transport = tr
		ctx := caller(t.Context())
		for range tripAfter {
			begin := time.Now()
			require.True(t, fault.Is(client.Get(ctx, "/calls/1", &call{}), fault.Unavailable))
			require.Equal(t, timeout, time.Since(begin))
		}
		begin := time.Now()
		for range 100 {
			require.True(t, fault.Is(client.Get(ctx, "/calls/1", &call{}), fault.Unavailable))
		}
		require.Zero(t, time.Since(begin))
		require.Equal(t, int32(tripAfter), tr.calls.Load(), "the breaker is open")

		tr.answer = refuse
		<-time.After(openFor + time.Millisecond)
		require.Error(t, client.Get(ctx, "/calls/1", &call{}))
		require.Error(t, client.Get(ctx, "/calls/1", &call{}))
		require.Equal(t, int32(tripAfter+1), tr.calls.Load(), "one half-open request, then the breaker is open again")

		tr.answer = fine
		<-time.After(openFor + time.Millisecond)
		for range 10 {
			var got call
			require.NoError(t, client.Get(ctx, "/calls/1", &got))
			require.Equal(t, "1", got.ID)
		}
	})
}

func TestRefusalsAndDisconnectedClientsDoNotTripTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &transport{answer: func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusNotFound, Body: io.NopCloser(strings.NewReader(`{}`))}, nil
		}}
		client := New("calls", "http://calls", telemetry.Nop())
		client.http.Transport = tr
		for range 3 * tripAfter {
			require.True(t, fault.Is(client.Get(caller(t.Context()), "/calls/1", &call{}), fault.NotFound))
		}
		tr.answer = hang
		for range 3 * tripAfter {
			ctx, cancel := context.WithTimeout(caller(t.Context()), time.Second)
			require.ErrorIs(t, client.Get(ctx, "/calls/1", &call{}), context.DeadlineExceeded)
			cancel()
		}
		tr.answer = fine
		require.NoError(t, client.Get(caller(t.Context()), "/calls/1", &call{}))
	})
}

func TestAQuestionIsABody(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodPost && r.URL.Path == "/questions" && r.Header.Get("Content-Type") == "application/json" && r.Header.Get("Authorization") == "Bearer the-token" {
			_, _ = io.WriteString(w, `{"id":`+string(body)+`}`)
		}
	})
	var answer call
	require.NoError(t, c.Ask(caller(t.Context()), "/questions", "why", &answer))
	require.Equal(t, "why", answer.ID)
}
