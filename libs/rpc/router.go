// Package rpc turns a service's methods into HTTP routes that are one line each. The OpenAPI document of the service is
// enforced, not described: a route that is not in it, or an operation without a route, does not start, and a request that it
// does not allow never reaches a method.
package rpc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/go-kit/kit/endpoint"
	kithttp "github.com/go-kit/kit/transport/http"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/openapi"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Authenticator says who sends a request, or fails with an Unauthenticated fault. It must not read the body.
type Authenticator func(r *http.Request) (identity.Caller, error)

// Router holds the operations of one service.
type Router struct {
	operations   map[string]openapi.Operation // by id
	chain        *op.Chain
	authenticate Authenticator
	keeper       Keeper
	tel          telemetry.Set
	mux          *Mux
	routed       map[string]bool
	problems     []error
}

// NewRouter makes a router without routes for a service with that OpenAPI document. keeper is for Idempotent; it may be nil.
func NewRouter(document []byte, chain *op.Chain, authenticate Authenticator, keeper Keeper, tel telemetry.Set) (*Router, error) {
	operations, err := openapi.Parse(document)
	if err != nil {
		return nil, err
	}
	return &Router{operations: operations, chain: chain, authenticate: authenticate, keeper: keeper, tel: tel, mux: NewMux(), routed: map[string]bool{}}, nil
}

type route struct {
	router     *Router
	op         openapi.Operation
	status     int
	version    string // of the running program, part of ETags
	etag       func(any) (string, bool)
	view       func(any) any
	respond    func(http.ResponseWriter, *http.Request, any) error
	middleware []endpoint.Middleware // the first is the outermost
}

// Option changes how a route answers.
type Option func(*route)

// Status is the status of a success; the default is 200. With 204 there is no body.
func Status(code int) Option { return func(r *route) { r.status = code } }

// View shows the method's answer to the client as something else; of a page (libs/page) it shows each item.
func View[T any](f func(T) any) Option {
	return func(r *route) {
		r.view = func(v any) any {
			if one, ok := v.(T); ok {
				return f(one)
			}
			return v.(paged).Show(func(item any) any { return f(item.(T)) })
		}
	}
}

// Respond writes the method's answer itself, for one that is not JSON. An error it returns must come before it has written
// anything. The operation's span lasts until it returns.
func Respond[Res any](f func(http.ResponseWriter, *http.Request, Res) error) Option {
	return func(r *route) {
		r.respond = func(w http.ResponseWriter, req *http.Request, v any) error { return f(w, req, v.(Res)) }
	}
}

// Before runs fn before the method and before its transaction begins. What an operation has to learn from outside of its
// database, such as from another service, belongs here.
func Before[Req any](fn func(context.Context, Req) error) Option {
	return func(r *route) {
		r.middleware = slices.Insert(r.middleware, 0, func(next endpoint.Endpoint) endpoint.Endpoint {
			return func(ctx context.Context, request any) (any, error) {
				if err := fn(ctx, request.(Req)); err != nil {
					return nil, err
				}
				return next(ctx, request)
			}
		})
	}
}

// Version makes the ETag of an answer from the version of what is answered, so that nothing is hashed.
func Version[Res any](version func(Res) int64) Option {
	return func(r *route) {
		r.etag = func(v any) (string, bool) {
			res, ok := v.(Res)
			if !ok {
				return "", false
			}
			return r.tag(version(res)), true
		}
	}
}

// Poll answers a client that has the newest version already (If-None-Match) without calling the method. version fails as the
// method would; it must be cheap. Use it together with Version.
func Poll[Req any](version func(context.Context, Req) (int64, error)) Option {
	return func(r *route) {
		r.middleware = append(r.middleware, func(next endpoint.Endpoint) endpoint.Endpoint {
			return func(ctx context.Context, request any) (any, error) {
				known := exchangeOf(ctx).request.Header.Get("If-None-Match")
				if known == "" {
					return next(ctx, request)
				}
				current, err := version(ctx, request.(Req))
				if err != nil {
					return nil, err
				}
				if tag := r.tag(current); matches(known, tag) {
					return notModified(tag), nil
				}
				return next(ctx, request)
			}
		})
	}
}

// tag is weak, because the gateway may compress the same value, and names the program: another version of it may show the
// same object differently.
func (rt *route) tag(version int64) string { return fmt.Sprintf(`W/"%d-%s"`, version, rt.version) }

// Keeper makes an operation with an Idempotency-Key happen once. Once runs do in a transaction, or returns the answer that the
// same key and fingerprint got before; the same key with another fingerprint is a Conflict fault.
type Keeper interface {
	Once(ctx context.Context, operation, key string, fingerprint []byte, do func(context.Context) (json.RawMessage, error)) (answer json.RawMessage, err error)
}

// Idempotent honours the header Idempotency-Key.
func Idempotent() Option { return Redacted(func(answer any) any { return answer }) }

// Redacted is Idempotent for an answer that must not be stored as it is: a repeated request gets what redact leaves of it.
func Redacted[T any](redact func(answer T) any) Option {
	return func(rt *route) {
		rt.middleware = append(rt.middleware, func(next endpoint.Endpoint) endpoint.Endpoint {
			return func(ctx context.Context, request any) (any, error) {
				x := exchangeOf(ctx)
				key := x.request.Header.Get("Idempotency-Key")
				if key == "" {
					return next(ctx, request)
				}
				var fresh any
				fingerprint := slices.Concat([]byte(x.request.URL.RequestURI()), []byte{0}, x.fingerprint)
				stored, err := rt.router.keeper.Once(ctx, rt.op.ID, key, fingerprint, func(ctx context.Context) (json.RawMessage, error) {
					response, err := next(ctx, request)
					if err != nil {
						return nil, err
					}
					fresh = rt.shown(response)
					return json.Marshal(redact(fresh.(T)))
				})
				if err != nil || fresh == nil {
					return stored, err
				}
				return shown{fresh}, nil
			}
		})
	}
}

// shown is an answer that View has been applied to.
type shown struct{ value any }

func (rt *route) shown(response any) any {
	switch response := response.(type) {
	case shown:
		return response.value
	case json.RawMessage:
		return response // of an earlier request
	}
	if rt.view != nil {
		return rt.view(response)
	}
	return response
}

// wrap puts the options' middleware around a method.
func (rt *route) wrap(method endpoint.Endpoint) endpoint.Endpoint {
	for _, m := range slices.Backward(rt.middleware) {
		method = m(method)
	}
	return method
}

// Handle routes a pattern such as "GET /calls/{id}" to a method. op is the operationId of the contract, the span, the
// log's op and the metric's label. The request is bound by its field tags: path, query, header, json.
func Handle[Req, Res any](r *Router, pattern, op string, method func(context.Context, Req) (Res, error), options ...Option) {
	decode := bind[Req](r.operations[op])
	r.handle(pattern, op, options, func(rt *route) endpoint.Endpoint {
		next := rt.wrap(func(ctx context.Context, request any) (any, error) { return method(ctx, request.(Req)) })
		return func(ctx context.Context, request any) (any, error) {
			req, err := decode(request.(*http.Request))
			if err != nil {
				return nil, err
			}
			return next(ctx, req)
		}
	})
}

// handle routes a pattern to an endpoint that decodes the HTTP request, so that one that cannot be decoded is traced, logged
// and counted too. The answer is written inside the chain as well: a span lasts as long as its stream.
func (r *Router) handle(pattern, id string, options []Option, endpointOf func(*route) endpoint.Endpoint) {
	o, ok := r.operations[id]
	documented := ""
	if ok {
		documented = o.Pattern()
	}
	if documented != pattern {
		r.problems = append(r.problems, fmt.Errorf("operation %s is %q here and %q in the contract", id, pattern, documented))
		return
	}
	rt := &route{router: r, op: o, status: http.StatusOK, version: r.tel.Version}
	for _, option := range options {
		option(rt)
	}
	next := endpointOf(rt)
	answering := func(ctx context.Context, request any) (any, error) {
		httpRequest := request.(*http.Request).WithContext(ctx)
		response, err := next(ctx, httpRequest)
		if err != nil {
			return nil, err
		}
		return nil, rt.answer(&exchangeOf(ctx).writer, httpRequest, response)
	}
	server := kithttp.NewServer(
		r.chain.Wrap(id, trace.SpanKindServer)(answering),
		func(_ context.Context, req *http.Request) (any, error) { return req, nil },
		func(context.Context, http.ResponseWriter, any) error { return nil }, // it has been written
		kithttp.ServerErrorEncoder(func(ctx context.Context, err error, w http.ResponseWriter) {
			x := exchangeOf(ctx)
			if x.writer.begun {
				panic(http.ErrAbortHandler) // how net/http is told to cut an answer that has begun
			}
			WriteError(w, x.request, err)
		}),
	)
	r.routed[id] = true
	r.mux.Handle(pattern, r.guarded(o, server))
}

func (rt *route) answer(w http.ResponseWriter, r *http.Request, response any) error {
	if tag, ok := response.(notModified); ok {
		return writeNotModified(w, string(tag))
	}
	if rt.respond != nil {
		return rt.respond(w, r, response)
	}
	if rt.status == http.StatusNoContent {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if rt.etag != nil && rt.status == http.StatusOK {
		if tag, ok := rt.etag(response); ok {
			if matches(r.Header.Get("If-None-Match"), tag) {
				return writeNotModified(w, tag)
			}
			w.Header().Set("ETag", tag)
		}
	}
	return writeJSON(w, r, rt.status, rt.shown(response))
}

// guarded is everything that happens before a body is read: who calls, and limits.
func (r *Router) guarded(o openapi.Operation, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx := req.Context()
		x := exchangeOf(ctx)
		if o.Access != openapi.Anyone && o.Access != openapi.Signed {
			caller, err := r.authenticate(req)
			if err == nil && o.Access == openapi.Admin && !caller.IsAdmin() {
				err = fault.New(fault.Forbidden, "admin_only", "Only an admin may do this")
			}
			if err != nil {
				WriteError(w, req, err)
				return
			}
			ctx = identity.With(ctx, caller)
		}
		if !o.IsForm() { // a form limits its file
			req.Body = http.MaxBytesReader(w, req.Body, o.MaxBody)
		}
		if o.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, o.Timeout)
			defer cancel()
			if o.ContentType != "" {
				// A context does not end a read: without this a client that stalls in its body stays for ever.
				_ = x.control().SetReadDeadline(clock.System{}.Now().Add(o.Timeout + stallGrace))
			}
		}
		x.request = req.WithContext(ctx)
		next.ServeHTTP(w, x.request)
	})
}

// Handler is the service's API. The error lists where the routes and the contract differ.
func (r *Router) Handler() (http.Handler, error) {
	problems := slices.Clone(r.problems)
	for id := range r.operations {
		if !r.routed[id] {
			problems = append(problems, fmt.Errorf("operation %s is in the contract and has no route", id))
		}
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
		return nil, errors.Join(problems...)
	}
	return http.HandlerFunc(r.serve), nil
}

func (r *Router) serve(w http.ResponseWriter, req *http.Request) {
	x := &exchange{requestID: CleanRequestID(req.Header.Get(RequestIDHeader)), writer: answerWriter{ResponseWriter: w}}
	ctx := context.WithValue(r.tel.Propagator.Extract(req.Context(), telemetry.Header(req.Header)), exchangeKey{}, x)
	req = req.WithContext(ctx)
	x.request = req
	w.Header().Set(RequestIDHeader, x.requestID)
	r.mux.ServeHTTP(&x.writer, req)
}
