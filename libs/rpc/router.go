// Package rpc turns a service's methods into operations: go-kit endpoints behind one middleware chain, and HTTP routes that
// are one line each. The OpenAPI document of the service is enforced, not described: a route that is not in it, or an
// operation without a route, does not start, and a request that it does not allow never reaches a method.
package rpc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	kithttp "github.com/go-kit/kit/transport/http"
	"go.opentelemetry.io/otel/trace"

	"github.com/go-kit/kit/endpoint"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Authenticator says who sends a request, or fails with an Unauthenticated fault. It must not read the body.
type Authenticator func(r *http.Request) (identity.Caller, error)

// Limits of a request, unless its route says otherwise.
const (
	maxBody = 1 << 20 // bytes of a JSON or form body
	timeout = 20 * time.Second
	// stallGrace lets the method answer first when its own time is over.
	stallGrace = 500 * time.Millisecond
)

// Router holds the operations of one service.
type Router struct {
	doc          *document
	chain        *Chain
	authenticate Authenticator
	tel          telemetry.Set
	mux          *Mux
	routed       map[string]bool
	problems     []error
}

// NewRouter makes a router without routes for a service with that OpenAPI document.
func NewRouter(openapi []byte, chain *Chain, authenticate Authenticator, tel telemetry.Set) (*Router, error) {
	doc, err := parse(openapi)
	if err != nil {
		return nil, err
	}
	return &Router{doc: doc, chain: chain, authenticate: authenticate, tel: tel, mux: NewMux(), routed: map[string]bool{}}, nil
}

type route struct {
	status     int
	maxBody    int64 // 0: the body is streamed and the method limits it
	timeout    time.Duration
	view       func(any) any
	respond    func(http.ResponseWriter, *http.Request, any) error
	middleware []endpoint.Middleware
}

// Option changes how a route answers.
type Option func(*route)

// Status is the status of a success; the default is 200. With 204 there is no body.
func Status(code int) Option { return func(r *route) { r.status = code } }

// Timeout is how long the method may take; 0 is as long as the client stays. The default is 20 s.
func Timeout(d time.Duration) Option { return func(r *route) { r.timeout = d } }

// Stream leaves the body to the method, without limit and time-out.
func Stream() Option { return func(r *route) { r.maxBody, r.timeout = 0, 0 } }

// View shows the method's answer to the client as something else, such as a List.
func View[Res any](f func(Res) any) Option {
	return func(r *route) { r.view = func(v any) any { return f(v.(Res)) } }
}

// Respond writes the method's answer itself, for one that is not JSON. An error it returns must come before it has
// written anything.
func Respond[Res any](f func(http.ResponseWriter, *http.Request, Res) error) Option {
	return func(r *route) {
		r.respond = func(w http.ResponseWriter, req *http.Request, v any) error { return f(w, req, v.(Res)) }
	}
}

// Keeper makes an operation with an Idempotency-Key happen once. Once runs do, or returns the answer that the same key and
// fingerprint got before; the same key with another fingerprint is a Conflict fault.
type Keeper interface {
	Once(ctx context.Context, operation, key string, fingerprint []byte, do func(context.Context) (json.RawMessage, error)) (answer json.RawMessage, err error)
}

// Idempotent honours the header Idempotency-Key.
func Idempotent(k Keeper, op string) Option {
	return func(rt *route) {
		rt.middleware = append(rt.middleware, func(next endpoint.Endpoint) endpoint.Endpoint {
			return func(ctx context.Context, request any) (any, error) {
				x := exchangeOf(ctx)
				key := x.request.Header.Get("Idempotency-Key")
				if key == "" {
					return next(ctx, request)
				}
				fingerprint := slices.Concat([]byte(x.request.URL.RequestURI()), []byte{0}, x.body)
				return k.Once(ctx, op, key, fingerprint, func(ctx context.Context) (json.RawMessage, error) {
					response, err := next(ctx, request)
					if err != nil {
						return nil, err
					}
					return json.Marshal(rt.shown(response))
				})
			}
		})
	}
}

func (rt *route) shown(response any) any {
	if raw, ok := response.(json.RawMessage); ok {
		return raw // answered before, or shown already
	}
	if rt.view != nil {
		return rt.view(response)
	}
	return response
}

// Handle routes a pattern such as "GET /calls/{id}" to a method. op is the operationId of the contract, the span, the
// log's op and the metric's label. The request is bound by its field tags: path, query, header, json.
func Handle[Req, Res any](r *Router, pattern, op string, method func(context.Context, Req) (Res, error), options ...Option) {
	HandleWith(r, pattern, op, bind[Req](r.doc.operations[op]), method, options...)
}

// HandleWith is Handle with an own decoder, for a body that is streamed.
func HandleWith[Req, Res any](r *Router, pattern, op string, decode func(*http.Request) (Req, error), method func(context.Context, Req) (Res, error), options ...Option) {
	if documented := r.doc.routes[op]; documented != pattern {
		r.problems = append(r.problems, fmt.Errorf("operation %s is %q here and %q in the contract", op, pattern, documented))
		return
	}
	rt := &route{status: http.StatusOK, maxBody: maxBody, timeout: timeout}
	for _, option := range options {
		option(rt)
	}
	e := Endpoint(method)
	for _, m := range slices.Backward(rt.middleware) {
		e = m(e)
	}
	server := kithttp.NewServer(
		r.chain.Wrap(op, trace.SpanKindServer)(decoding(e, decode)),
		// Decoding is part of the endpoint, so that a request that cannot be decoded is traced, logged and counted too.
		func(_ context.Context, req *http.Request) (any, error) { return req, nil },
		func(ctx context.Context, w http.ResponseWriter, response any) error {
			return r.answer(ctx, w, rt, op, response)
		},
		kithttp.ServerErrorEncoder(func(ctx context.Context, err error, w http.ResponseWriter) {
			WriteError(w, exchangeOf(ctx).request, err)
		}),
	)
	r.routed[op] = true
	r.mux.Handle(pattern, r.guarded(r.doc.operations[op], rt, server))
}

func decoding[Req any](next endpoint.Endpoint, decode func(*http.Request) (Req, error)) endpoint.Endpoint {
	return func(ctx context.Context, request any) (any, error) {
		httpRequest := request.(*http.Request).WithContext(ctx)
		req, err := decode(httpRequest)
		if err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

// answer writes the method's answer. It runs outside of the chain, so what goes wrong here is logged here.
func (r *Router) answer(ctx context.Context, w http.ResponseWriter, rt *route, op string, response any) (err error) {
	defer func() {
		if p := recover(); p == http.ErrAbortHandler { //nolint:errorlint // the value itself is the signal
			panic(p)
		} else if p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		if err != nil && fault.Status(err) >= http.StatusInternalServerError {
			r.tel.Log.ErrorContext(ctx, "answer", "op", op, "error", err)
		}
	}()
	return rt.write(w, exchangeOf(ctx).request, response)
}

func (rt *route) write(w http.ResponseWriter, r *http.Request, response any) error {
	if rt.respond != nil {
		return rt.respond(w, r, response)
	}
	if rt.status == http.StatusNoContent {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return writeJSON(w, r, rt.status, rt.shown(response))
}

// guarded is everything that happens before a body is read: the trace, the request id, who calls, limits.
func (r *Router) guarded(op operation, rt *route, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx := req.Context()
		x := exchangeOf(ctx)
		if op.access != Anyone && op.access != Signed {
			caller, err := r.authenticate(req)
			if err == nil && op.access == Admin && !caller.IsAdmin() {
				err = fault.New(fault.Forbidden, "admin_only", "Only an admin may do this")
			}
			if err != nil {
				WriteError(w, req, err)
				return
			}
			ctx = identity.With(ctx, caller)
		}
		if rt.maxBody > 0 {
			req.Body = http.MaxBytesReader(w, req.Body, rt.maxBody)
		}
		if rt.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, rt.timeout)
			defer cancel()
			if op.contentType != "" {
				// A context does not end a read: without this a client that stalls in its body stays for ever.
				_ = http.NewResponseController(w).SetReadDeadline(clock.System{}.Now().Add(rt.timeout + stallGrace))
			}
		}
		x.request = req.WithContext(ctx)
		next.ServeHTTP(w, x.request)
	})
}

// Handler is the service's API. The error lists where the routes and the contract differ.
func (r *Router) Handler() (http.Handler, error) {
	problems := slices.Clone(r.problems)
	for op := range r.doc.operations {
		if !r.routed[op] {
			problems = append(problems, fmt.Errorf("operation %s is in the contract and has no route", op))
		}
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
		return nil, errors.Join(problems...)
	}
	return http.HandlerFunc(r.serve), nil
}

func (r *Router) serve(w http.ResponseWriter, req *http.Request) {
	carrier := map[string]string{"traceparent": req.Header.Get("traceparent"), "tracestate": req.Header.Get("tracestate")}
	x := &exchange{requestID: CleanRequestID(req.Header.Get(RequestIDHeader))}
	ctx := context.WithValue(r.tel.Extract(req.Context(), carrier), exchangeKey{}, x)
	req = req.WithContext(ctx)
	x.request = req
	w.Header().Set(RequestIDHeader, x.requestID)
	r.mux.ServeHTTP(w, req)
}
