// Package fault is the platform's only error type. A fault has a kind, which decides the HTTP status (Status) and whether a
// consumer or job retries (Retryable), a stable code that clients may match on, and a detail for people. It refuses to send
// internal text to a client: the wrapped cause is only logged.
package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Kind is the category of a problem. The code says which problem it is.
type Kind int

// The kinds. An error that is not a fault is Internal.
const (
	Internal         Kind = iota // a bug or an unclassified error on our side
	Malformed                    // the body does not match its content type
	Unauthenticated              // no token, or an invalid one
	Forbidden                    // a valid token without access to the object
	NotFound                     // no such object
	MethodNotAllowed             // the path exists, but not with this method
	Conflict                     // the object's state does not allow it
	Stale                        // the object has changed since the version that the request names (If-Match)
	TooLarge                     // over a size limit
	Unsupported                  // the request's content type is not supported
	OutOfRange                   // the header Range matches no part of the content
	Invalid                      // one or more fields are invalid
	Limited                      // too many requests
	RequestTimeout               // the client took too long to send its request
	Unavailable                  // a dependency is down; the same request may succeed later
	Timeout                      // a dependency did not answer in time
	BadGateway                   // a dependency's response violates its protocol
	Defect                       // a bug on our side that a retry only repeats: a panic, data that the database refuses
)

var statuses = map[Kind]int{
	Internal:         http.StatusInternalServerError,
	Malformed:        http.StatusBadRequest,
	Unauthenticated:  http.StatusUnauthorized,
	Forbidden:        http.StatusForbidden,
	NotFound:         http.StatusNotFound,
	MethodNotAllowed: http.StatusMethodNotAllowed,
	Conflict:         http.StatusConflict,
	Stale:            http.StatusPreconditionFailed,
	TooLarge:         http.StatusRequestEntityTooLarge,
	Unsupported:      http.StatusUnsupportedMediaType,
	OutOfRange:       http.StatusRequestedRangeNotSatisfiable,
	Invalid:          http.StatusUnprocessableEntity,
	Limited:          http.StatusTooManyRequests,
	RequestTimeout:   http.StatusRequestTimeout,
	Unavailable:      http.StatusServiceUnavailable,
	Timeout:          http.StatusGatewayTimeout,
	BadGateway:       http.StatusBadGateway,
	Defect:           http.StatusInternalServerError,
}

// Field is one invalid field of a request, in FastAPI's format, which the apps parse.
type Field struct {
	Type string `json:"type"` // the kind of error: missing, string_too_short, …
	Loc  []any  `json:"loc"`  // path to the field: "body", "password"
	Msg  string `json:"msg"`  // what to correct, for people
}

// Error is a fault. Create it with New or Wrap; the zero Error is Internal.
type Error struct {
	Kind       Kind
	Code       string        // stable and documented, snake_case
	Detail     string        // for people, safe to show to a client
	Fields     []Field       // for Invalid: every invalid field
	Extra      Extra         // further members of the error body, such as the id of the conflicting object
	RetryAfter time.Duration // when to retry; zero if not known
	cause      error
}

// Extra is the members of an error body besides detail and code.
type Extra map[string]any

// New returns a fault. Clients see its code and detail.
func New(kind Kind, code, detail string) *Error {
	return &Error{Kind: kind, Code: code, Detail: detail}
}

// Wrap returns a fault with the cause err. The cause is logged and never sent to a client.
func Wrap(err error, kind Kind, code, detail string) *Error {
	return &Error{Kind: kind, Code: code, Detail: detail, cause: err}
}

// Fields returns the Invalid fault of a request with invalid fields. Its detail describes the first three of them.
func Fields(fields ...Field) *Error {
	return &Error{Kind: Invalid, Code: "validation_error", Detail: summary(fields), Fields: fields}
}

// summaryFields is how many fields a detail describes. Apps display the detail unchanged.
const summaryFields = 3

func summary(fields []Field) string {
	var texts []string
	for _, f := range fields[:min(len(fields), summaryFields)] {
		texts = append(texts, f.String())
	}
	text := strings.Join(texts, "; ")
	if more := len(fields) - summaryFields; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// String returns the field's path and message, such as "password: String should have at least 8 characters".
func (f Field) String() string {
	var path []string
	for _, part := range f.Loc[min(1, len(f.Loc)):] { // the first element is the location: body, query, …
		path = append(path, fmt.Sprint(part))
	}
	if len(path) == 0 {
		return f.Msg
	}
	return strings.Join(path, ".") + ": " + f.Msg
}

// BodyField returns an invalid field of a JSON body.
func BodyField(name, typ, msg string) Field {
	return Field{Type: typ, Loc: []any{"body", name}, Msg: msg}
}

// After sets RetryAfter and returns e.
func (e *Error) After(d time.Duration) *Error {
	e.RetryAfter = d
	return e
}

// With adds a member to the error body and returns e.
func (e *Error) With(name string, value any) *Error {
	if e.Extra == nil {
		e.Extra = Extra{}
	}
	e.Extra[name] = value
	return e
}

// Error returns the code, the detail and the cause, for logs.
func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Detail, e.cause)
	}
	return e.Code + ": " + e.Detail
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Of returns err as a fault. An error that is not a fault becomes timeout if a deadline was exceeded, and otherwise
// internal_error; err is then the cause.
func Of(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return Wrap(err, Timeout, "timeout", "The request took too long, try again").After(time.Second)
	default:
		return Wrap(err, Internal, "internal_error", "Something went wrong on our side")
	}
}

// ErrOutcomeUnknown is in the chain of an error after which a change may have been committed or not: the COMMIT was sent, and its
// answer was lost. After every other error nothing was committed.
var ErrOutcomeUnknown = errors.New("it is unknown whether the change was committed")

// KindOf returns the kind of err: that of Of(err).
func KindOf(err error) Kind { return Of(err).Kind }

// Is reports whether err is a fault of the given kind.
func Is(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}

// Status returns the HTTP status for err. No other place decides a status.
func Status(err error) int { return statuses[KindOf(err)] }

// Retryable reports whether the error may be transient, so that a consumer or job retries instead of giving up. Internal is
// retryable, because an unclassified error may be transient too.
func Retryable(err error) bool {
	switch KindOf(err) {
	case Internal, Unavailable, Timeout, BadGateway, Limited:
		return true
	default:
		return false
	}
}
