package rpc_test

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/openapi"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/telemetry"
)

//go:embed testdata/things.yaml
var things []byte

type listRequest struct {
	Limit  int       `query:"limit"`
	Cursor string    `query:"cursor"`
	Words  string    `query:"q"`
	Kind   string    `query:"kind"`
	Ratio  *float64  `query:"ratio"`
	Flag   *bool     `query:"flag"`
	Since  time.Time `query:"since"`
	Count  int8      `query:"count"`
	Mode   string    `header:"X-Mode"`
}

type createRequest struct {
	Name   string     `json:"name"`
	Size   int32      `json:"size"`
	Weight *float64   `json:"weight"`
	Kind   string     `json:"kind"`
	Email  *string    `json:"email"`
	Owner  string     `json:"owner"`
	Code   string     `json:"code"`
	Due    *time.Time `json:"due"`
	Hot    bool       `json:"hot"`
	Tags   []string   `json:"tags"`
	Parts  []struct {
		At   time.Time `json:"at"`
		Kind string    `json:"kind"`
	} `json:"parts"`
	Extra   json.RawMessage   `json:"extra"`
	Labels  map[string]string `json:"labels"`
	Secret  string            `json:"secret"` // not in the contract
	Counter int               // no tag at all
}

type idRequest struct {
	ID string `path:"id"`
}

type changeRequest struct {
	ID   string  `path:"id"`
	Name *string `json:"name"`
}

type loginRequest struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

type troubleRequest struct {
	What string `path:"what"`
}

type uploadRequest struct {
	Name string     `json:"name"`
	Size *int       `json:"size"`
	Due  *time.Time `json:"due"`
	File string     `json:"-"` // name in files
}

// files are the stored files of uploads by name.
type files struct {
	mu       sync.Mutex
	stored   map[string]string
	notReady error
	fails    error // of the method
	unused   bool
}

const maxFile = 1 << 20

func (f *files) file() rpc.File[uploadRequest, uploadRequest] {
	return rpc.File[uploadRequest, uploadRequest]{Field: "file", MaxBytes: maxFile, TooLarge: fault.New(fault.TooLarge, "file_too_large", "Too large"),
		Ready: func(context.Context) error { return f.notReady },
		Store: func(_ context.Context, req *uploadRequest, filename string, content io.Reader) (string, error) {
			raw, err := io.ReadAll(content)
			if err != nil {
				return "", err
			}
			if string(raw) == "not a thing" {
				return "", fault.Fields(fault.BodyField("file", "format", "Not a thing"))
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			req.File = fmt.Sprintf("%d %s", len(f.stored), filename)
			f.stored[req.File] = string(raw)
			return string(raw), nil
		},
		Unused: func(uploadRequest) bool { return f.unused },
		Discard: func(_ context.Context, req uploadRequest) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.stored, req.File)
			return nil
		},
	}
}

// upload returns its request.
func (f *files) upload(_ context.Context, req uploadRequest) (uploadRequest, error) {
	return req, f.fails
}

func (f *files) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.stored)
}

// service is a router for the contract things.yaml. Its methods return their requests.
type service struct {
	router *rpc.Router
	chain  *op.Chain
	api    http.Handler
	files  *files
	log    *bytes.Buffer
	spans  *tracetest.SpanRecorder
	tel    telemetry.Set
}

const (
	agentToken, adminToken = "agent-token", "admin-token"
	thingID                = "01935c5e-0000-7000-8000-000000000001"
)

func authenticate(r *http.Request) (identity.Caller, error) {
	switch r.Header.Get("Authorization") {
	case "Bearer " + agentToken:
		return identity.Caller{AgentID: "agent", Role: identity.Agent}, nil
	case "Bearer " + adminToken:
		return identity.Caller{AgentID: "admin", Role: identity.Admin}, nil
	default:
		return identity.Caller{}, fault.New(fault.Unauthenticated, "not_authenticated", "Log in")
	}
}

func echo[Req any](_ context.Context, req Req) (Req, error) { return req, nil }

// refuse is what a method knows and the contract does not.
func refuse(_ context.Context, req createRequest) error {
	switch req.Name {
	case "unlucky":
		return fault.Fields(fault.BodyField("name", "value_error", "Unlucky"), fault.BodyField("size", "value_error", "Unlucky"))
	case "broken":
		return errUnavailable
	default:
		return nil
	}
}

func newRouter(t testing.TB, contract []byte, responses rpc.IdempotencyStore) (service, error) {
	t.Helper()
	s := service{files: &files{stored: map[string]string{}}, log: &bytes.Buffer{}, spans: tracetest.NewSpanRecorder(), tel: telemetry.Nop()}
	s.tel.Log = slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.tel.Traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(s.spans))
	var err error
	s.chain, err = op.NewChain(s.tel, classify)
	require.NoError(t, err)
	s.router, err = rpc.NewRouter(contract, s.chain, authenticate, responses, s.tel)
	return s, err
}

var errUnavailable = errors.New("conn closed")

func classify(err error) error {
	if errors.Is(err, errUnavailable) {
		return fault.Wrap(err, fault.Unavailable, "database_unavailable", "Try again").After(1500 * time.Millisecond)
	}
	return err
}

func start(t testing.TB, responses rpc.IdempotencyStore) service {
	t.Helper()
	s, err := newRouter(t, things, responses)
	require.NoError(t, err)
	r := s.router
	rpc.Handle(r, "GET /things", "things.list", func(_ context.Context, req listRequest) (page.Of[listRequest], error) {
		if req.Kind == "small" {
			return page.Of[listRequest]{Next: req.Cursor}, nil
		}
		return page.Of[listRequest]{Items: []listRequest{req}, Next: req.Cursor}, nil
	})
	rpc.Handle(r, "POST /things", "things.create", echo[createRequest], rpc.Status(http.StatusCreated), rpc.Idempotent(), rpc.Also(refuse))
	rpc.Handle(r, "GET /things/{id}", "things.get", echo[idRequest])
	rpc.Handle(r, "PATCH /things/{id}", "things.change", echo[changeRequest])
	rpc.Handle(r, "DELETE /things/{id}", "things.remove", echo[idRequest], rpc.Status(http.StatusNoContent))
	rpc.Handle(r, "POST /login", "things.login", echo[loginRequest])
	rpc.HandleForm(r, "POST /upload", "things.upload", s.files.file(), s.files.upload, rpc.Status(http.StatusAccepted), rpc.Idempotent())
	rpc.Handle(r, "GET /trouble/{what}", "things.trouble", s.trouble, rpc.View(func(v any) any {
		if v == "view panic" {
			panic("secret of the view")
		}
		return v
	}))
	s.api, err = r.Handler()
	require.NoError(t, err)
	return s
}

// trouble fails in the way that the path says.
func (s service) trouble(ctx context.Context, req troubleRequest) (any, error) {
	switch req.What {
	case "panic":
		panic("secret of the panic")
	case "unknown":
		return nil, errors.New("secret of the error")
	case "unavailable":
		return nil, errUnavailable
	case "slow":
		<-ctx.Done()
		return nil, ctx.Err()
	case "limited":
		return nil, fault.New(fault.Limited, "too_many", "Slow down").After(time.Minute)
	case "conflict":
		return nil, fault.New(fault.Conflict, "exists", "There is one").With("client_id", "x").With("code", "overwritten?")
	case "unmarshalable":
		return make(chan int), nil
	}
	return req.What, nil
}

type request struct {
	method, target, body string
	header               http.Header
	reader               io.Reader
}

// do sends a request as an agent with a JSON body, unless its headers say otherwise.
func (s service) do(t testing.TB, req request) *httptest.ResponseRecorder {
	t.Helper()
	if req.reader == nil {
		req.reader = strings.NewReader(req.body)
	}
	r := httptest.NewRequestWithContext(t.Context(), req.method, req.target, req.reader)
	r.Header.Set("Authorization", "Bearer "+agentToken)
	r.Header.Set("Content-Type", "application/json")
	for name, values := range req.header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	require.NotEmpty(t, w.Header().Get("X-Request-Id"))
	return w
}

func with(name, value string) http.Header {
	h := http.Header{}
	h.Set(name, value)
	return h
}

// wrong requires a 422 and returns its fields as "type loc".
func wrong(t testing.TB, w *httptest.ResponseRecorder) (out []string) {
	t.Helper()
	require.Equal(t, http.StatusUnprocessableEntity, w.Code, w.Body)
	var body struct {
		Detail string
		Errors []struct {
			Type, Msg string
			Loc       []any
		}
		Code      string
		RequestID string `json:"request_id"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
	require.Equal(t, "validation_error", body.Code)
	require.Equal(t, w.Header().Get("X-Request-Id"), body.RequestID)
	require.Contains(t, body.Detail, body.Errors[0].Msg, "detail is a text for people")
	for _, f := range body.Errors {
		require.NotEmpty(t, f.Msg)
		loc, err := json.Marshal(f.Loc)
		require.NoError(t, err)
		out = append(out, f.Type+" "+string(loc))
	}
	return out
}

// handlerOf completes the API after a test has routed one operation: all others return their requests.
func (s service) handlerOf(t testing.TB, id string) (http.Handler, error) {
	t.Helper()
	operations, err := openapi.Parse(things)
	require.NoError(t, err)
	for _, o := range operations {
		if o.ID != id {
			rpc.Handle(s.router, o.Pattern(), o.ID, echo[struct{}])
		}
	}
	return s.router.Handler()
}

// storeFunc is a IdempotencyStore that calls a function instead of starting a transaction, and stores nothing.
type storeFunc func()

func (k storeFunc) Once(ctx context.Context, _, _ string, _ []byte, do func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
	k()
	return do(ctx)
}
