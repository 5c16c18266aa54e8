// Package rpc turns a service's methods into HTTP routes, one line each, and enforces the OpenAPI document of the service. It
// refuses to start with a route that is not in the document or an operation without a route, and it refuses requests that the
// document does not allow before they reach a method.
package rpc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-kit/kit/endpoint"
	kithttp "github.com/go-kit/kit/transport/http"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/openapi"
	"github.com/convoflow/convoflow/libs/patch"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Authenticator returns the caller of a request. It must fail with a fault, such as Unauthenticated, and must not read the body.
type Authenticator func(r *http.Request) (identity.Caller, error)

// Router holds the operations of one service.
type Router struct {
	operations   map[string]openapi.Operation // by id
	chain        *op.Chain
	authenticate Authenticator
	responses    IdempotencyStore
	tel          telemetry.Set
	bodies       *Budget
	mux          *Mux
	routed       map[string]bool
	problems     []error
}

// MaxBody returns the size of the largest request body in bytes that the document states.
func (r *Router) MaxBody() (bytes int64) {
	for _, o := range r.operations {
		bytes = max(bytes, o.MaxBody)
	}
	return bytes
}

// NewRouter returns a router without routes for the service with the OpenAPI document. responses is used by Idempotent and Redacted;
// it may be nil if no route has these options.
func NewRouter(document []byte, chain *op.Chain, authenticate Authenticator, responses IdempotencyStore, tel telemetry.Set) (*Router, error) {
	operations, err := openapi.Parse(document)
	if err != nil {
		return nil, err
	}
	return &Router{operations: operations, chain: chain, authenticate: authenticate, responses: responses, tel: tel, bodies: NewBudget(DefaultBodyMemory), mux: NewMux(), routed: map[string]bool{}}, nil
}

// LimitBodies replaces the budget of the bodies that the routes read into memory. Call it before the API is served.
func (r *Router) LimitBodies(b *Budget) { r.bodies = b }

type route struct {
	router     *Router
	op         openapi.Operation
	status     int
	statusOf   func(response any) int // nil: status
	version    string                 // version of the running program, part of ETags
	etag       func(any) (string, bool)
	view       func(any) any
	respond    func(http.ResponseWriter, *http.Request, any) error
	middleware []endpoint.Middleware // the first is the outermost
	also       func(context.Context, any) error
}

// Option configures a route.
type Option func(*route)

// Status sets the status of a successful response; the default is 200. A 204 has no body.
func Status(code int) Option { return func(r *route) { r.status = code } }

// StatusOf sets the status of a successful response by what the method returned. It does not combine with Idempotent, which stores
// only the body.
func StatusOf[Res any](code func(Res) int) Option {
	return func(r *route) { r.statusOf = func(response any) int { return code(response.(Res)) } }
}

// View converts the method's response to what the client receives. Of a page (libs/page) it converts each item.
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

// Respond writes a response that is not JSON. If f fails before it has written anything, the client gets an error response;
// after that the connection is aborted. The operation's span ends when f returns.
func Respond[Res any](f func(http.ResponseWriter, *http.Request, Res) error) Option {
	return func(r *route) {
		r.respond = func(w http.ResponseWriter, req *http.Request, v any) error { return f(w, req, v.(Res)) }
	}
}

// Before runs fn before the method, outside the transaction of an Idempotency-Key. Use it to fetch data from another service.
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

// Also lists the fields that the method would refuse together with those that the contract refuses, so that an error has all of them.
// refuse returns the same faults as the method. It gets the request without the fields that are wrong by the contract.
func Also[Req any](refuse func(context.Context, Req) error) Option {
	return func(r *route) {
		r.also = func(ctx context.Context, request any) error { return refuse(ctx, request.(Req)) }
	}
}

// Version derives the ETag of a response from the version of the object, so that the response is not hashed.
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

// Poll responds with 304 without calling the method if the client already has the current version (If-None-Match). version must
// be cheap and must fail like the method, for example if the caller may not access the object. Use it together with Version.
func Poll[Req any](version func(context.Context, Req) (int64, error)) Option {
	return func(r *route) {
		r.middleware = append(r.middleware, func(next endpoint.Endpoint) endpoint.Endpoint {
			return func(ctx context.Context, request any) (any, error) {
				etags := exchangeOf(ctx).request.Header.Get("If-None-Match")
				if etags == "" {
					return next(ctx, request)
				}
				current, err := version(ctx, request.(Req))
				if err != nil {
					return nil, err
				}
				if tag := r.tag(current); matches(etags, tag) {
					return notModified(tag), nil
				}
				return next(ctx, request)
			}
		})
	}
}

// Conditional supports the header If-Match: the method runs in a context that expects the versions of those ETags, and checks them
// with patch.Check under the object's lock. A tag that another version of the program has made counts too, because the version of
// the object is what may not have changed. Use it together with Version.
func Conditional() Option {
	return func(rt *route) {
		rt.middleware = append(rt.middleware, func(next endpoint.Endpoint) endpoint.Endpoint {
			return func(ctx context.Context, request any) (any, error) {
				header := exchangeOf(ctx).request.Header.Values("If-Match")
				if len(header) == 0 || slices.Contains(header, "*") {
					return next(ctx, request)
				}
				return next(patch.Expect(ctx, versions(strings.Join(header, ","))), request)
			}
		})
	}
}

// versions returns the versions in the ETags of a header. It ignores tags that are not ours.
func versions(header string) (found []int64) {
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
		number, _, _ := strings.Cut(tag, "-")
		if version, err := strconv.ParseInt(number, 10, 64); err == nil {
			found = append(found, version)
		}
	}
	return found
}

// tag returns the ETag of a version. It is weak, because the gateway may compress the response. It includes the version of the
// program, because another one may represent the object differently.
func (rt *route) tag(version int64) string { return fmt.Sprintf(`W/"%d-%s"`, version, rt.version) }

// IdempotencyStore executes an operation with an Idempotency-Key only once. Once runs do in a transaction and stores its response, or
// returns the stored response of the same key and fingerprint. It fails with a Conflict fault for the same key with a different
// fingerprint. libs/idempotency implements it.
type IdempotencyStore interface {
	Once(ctx context.Context, operation, key string, fingerprint []byte, do func(context.Context) (json.RawMessage, error)) (answer json.RawMessage, err error)
}

// Idempotent supports the header Idempotency-Key: a repeated request gets the first response.
func Idempotent() Option { return Redacted(func(answer any) any { return answer }) }

// Redacted is Idempotent for a response with secrets, which must not be stored: a repeated request gets the redacted response.
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
				stored, err := rt.router.responses.Once(ctx, rt.op.ID, key, fingerprint, func(ctx context.Context) (json.RawMessage, error) {
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

// shown is a response to which View has been applied.
type shown struct{ value any }

func (rt *route) shown(response any) any {
	switch response := response.(type) {
	case shown:
		return response.value
	case json.RawMessage:
		return response // the stored response of an earlier request
	}
	if rt.view != nil {
		return rt.view(response)
	}
	return response
}

// wrap applies the options' middleware to a method.
func (rt *route) wrap(method endpoint.Endpoint) endpoint.Endpoint {
	for _, m := range slices.Backward(rt.middleware) {
		method = m(method)
	}
	return method
}

// Handle routes a pattern such as "GET /calls/{id}" to a method. op is the operationId in the contract, and also the span name, the
// log field op and the metric label op. The request is decoded by its field tags: path, query, header, json.
func Handle[Req, Res any](r *Router, pattern, op string, method func(context.Context, Req) (Res, error), options ...Option) {
	r.handle(pattern, op, options, func(rt *route) endpoint.Endpoint {
		decode := bind[Req](rt.op, rt.also)
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

// HandleRaw routes a pattern to a method that verifies the bytes of its body before it reads them, such as a signature. The body is
// not decoded or validated; request makes the method's request of it. The content type and the size are those of the contract.
func HandleRaw[Req, Res any](r *Router, pattern, op string, request func(body []byte, header http.Header) Req, method func(context.Context, Req) (Res, error), options ...Option) {
	o := r.operations[op]
	r.handle(pattern, op, options, func(rt *route) endpoint.Endpoint {
		next := rt.wrap(func(ctx context.Context, request any) (any, error) { return method(ctx, request.(Req)) })
		return func(ctx context.Context, raw any) (any, error) {
			httpRequest, x := raw.(*http.Request), exchangeOf(ctx)
			if sent, _, err := mime.ParseMediaType(httpRequest.Header.Get("Content-Type")); err != nil || sent != o.ContentType {
				return nil, unsupported(o)
			}
			body, err := x.buffer.ReadAll(httpRequest.Body, httpRequest.ContentLength)
			if err != nil {
				return nil, unreadable(err)
			}
			x.fingerprint = body
			return next(ctx, request(body, httpRequest.Header))
		}
	})
}

// handle routes a pattern to an endpoint. Decoding the request and writing the response are part of the endpoint, so that invalid
// requests are also traced, logged and measured, and a span includes the time of streaming the response.
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
	method, path, _ := strings.Cut(pattern, " ")
	attributes := []attribute.KeyValue{attribute.String("http.request.method", method), attribute.String("http.route", path)}
	answering := func(ctx context.Context, request any) (any, error) {
		trace.SpanFromContext(ctx).SetAttributes(attributes...)
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
		func(context.Context, http.ResponseWriter, any) error { return nil }, // the endpoint has already written the response
		kithttp.ServerErrorEncoder(func(ctx context.Context, err error, w http.ResponseWriter) {
			x := exchangeOf(ctx)
			if x.writer.begun {
				panic(http.ErrAbortHandler) // makes net/http abort a response that has begun
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
	status := rt.status
	if rt.statusOf != nil {
		status = rt.statusOf(response)
	}
	if rt.etag != nil && status == http.StatusOK {
		if tag, ok := rt.etag(response); ok {
			if r.Method == http.MethodGet && matches(r.Header.Get("If-None-Match"), tag) {
				return writeNotModified(w, tag)
			}
			w.Header().Set("ETag", tag)
		}
	}
	return writeJSON(w, r, status, rt.shown(response))
}

// HasLink reports whether a request has the token of a link in place of a caller.
func HasLink(o openapi.Operation, r *http.Request) bool {
	return o.Access == openapi.Link && r.URL.Query().Has(openapi.LinkToken)
}

// guarded wraps a handler with what must happen before the body is read: authentication, limits and timeouts.
func (r *Router) guarded(o openapi.Operation, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx := req.Context()
		x := exchangeOf(ctx)
		x.buffer = r.bodies.Buffer()
		defer x.buffer.Release()
		if o.Access != openapi.Anyone && o.Access != openapi.Signed && !HasLink(o, req) {
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
		if !o.IsForm() { // forms have their own limit
			req.Body = http.MaxBytesReader(w, req.Body, o.MaxBody)
		}
		if o.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, o.Timeout)
			defer cancel()
			if o.ContentType != "" && req.ContentLength != 0 {
				// The end of a context does not interrupt a read: without a deadline, a client could stall in its body forever. Without a
				// body, net/http already reads in the background, and a deadline would end the context of the whole connection.
				_ = x.control().SetReadDeadline(clock.Deadline(o.Timeout + stallGrace))
			}
		}
		x.request = req.WithContext(ctx)
		next.ServeHTTP(w, x.request)
	})
}

// Handler returns the API as a handler. It fails if the routes differ from the contract, and the error lists the differences.
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
	if id := req.Header.Get(ExchangeIDHeader); isID(id) {
		w.Header().Set(ExchangeIDHeader, id)
	}
	r.mux.ServeHTTP(&x.writer, req)
}
