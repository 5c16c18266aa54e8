// Package fault is the one error type of the platform. A fault has a kind, which two tables turn into an HTTP status
// (Status) and into what a consumer or job does with it (Retryable), a stable code that clients may match on, and a
// detail for people. It refuses to carry internal text to a client: what was wrapped stays in the log.
package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Kind says what sort of problem it is, never which one.
type Kind int

// The kinds. An error that is no fault is Internal.
const (
	Internal         Kind = iota // a bug or something unforeseen of ours
	Malformed                    // the body is not what its content type says
	Unauthenticated              // no token, or not a valid one
	Forbidden                    // a valid token, somebody else's object
	NotFound                     // no such object
	MethodNotAllowed             // the path exists, the method does not
	Conflict                     // the object's state does not allow it
	TooLarge                     // over a size limit
	Unsupported                  // the request's content type is not served
	OutOfRange                   // the header Range names no part of the content
	Invalid                      // one or more fields are wrong
	Limited                      // too many requests
	Unavailable                  // a dependency is down; the same request may succeed later
	Timeout                      // a dependency did not answer in time
	BadGateway                   // a dependency answered, but not what its protocol allows
)

var statuses = map[Kind]int{
	Internal:         http.StatusInternalServerError,
	Malformed:        http.StatusBadRequest,
	Unauthenticated:  http.StatusUnauthorized,
	Forbidden:        http.StatusForbidden,
	NotFound:         http.StatusNotFound,
	MethodNotAllowed: http.StatusMethodNotAllowed,
	Conflict:         http.StatusConflict,
	TooLarge:         http.StatusRequestEntityTooLarge,
	Unsupported:      http.StatusUnsupportedMediaType,
	OutOfRange:       http.StatusRequestedRangeNotSatisfiable,
	Invalid:          http.StatusUnprocessableEntity,
	Limited:          http.StatusTooManyRequests,
	Unavailable:      http.StatusServiceUnavailable,
	Timeout:          http.StatusGatewayTimeout,
	BadGateway:       http.StatusBadGateway,
}

// Field is one wrong field of a request, in the shape the apps know (FastAPI's).
type Field struct {
	Type string `json:"type"` // what is wrong with it: missing, string_too_short, …
	Loc  []any  `json:"loc"`  // where it is: "body", "password"
	Msg  string `json:"msg"`  // what to do, for people
}

// Error is a fault. Make one with New or Wrap; a zero Error is Internal.
type Error struct {
	Kind       Kind
	Code       string        // stable and documented, snake_case
	Detail     string        // for people, safe to show to a client
	Fields     []Field       // for Invalid: every wrong field
	Extra      Extra         // further members of the error body, such as the id of the object that is in the way
	RetryAfter time.Duration // for Limited and Unavailable: when trying again makes sense
	cause      error
}

// Extra is what an error body carries beside detail and code.
type Extra map[string]any

// New makes a fault that a client may see as it is.
func New(kind Kind, code, detail string) *Error {
	return &Error{Kind: kind, Code: code, Detail: detail}
}

// Wrap makes a fault out of err. err goes to the log, never to a client.
func Wrap(err error, kind Kind, code, detail string) *Error {
	return &Error{Kind: kind, Code: code, Detail: detail, cause: err}
}

// Fields makes the Invalid fault of a request with wrong fields. Its detail names the first few of them.
func Fields(fields ...Field) *Error {
	return &Error{Kind: Invalid, Code: "validation_error", Detail: summary(fields), Fields: fields}
}

// summaryFields is how many wrong fields a detail names: apps show it as it is.
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

// String is the field and what to do, such as "password: String should have at least 8 characters".
func (f Field) String() string {
	var path []string
	for _, part := range f.Loc[min(1, len(f.Loc)):] { // the first says where: body, query, …
		path = append(path, fmt.Sprint(part))
	}
	if len(path) == 0 {
		return f.Msg
	}
	return strings.Join(path, ".") + ": " + f.Msg
}

// BodyField is one wrong field of a JSON body.
func BodyField(name, typ, msg string) Field {
	return Field{Type: typ, Loc: []any{"body", name}, Msg: msg}
}

// After sets when to try again and returns e.
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

// Error is for logs: the code, the detail and the cause.
func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Detail, e.cause)
	}
	return e.Code + ": " + e.Detail
}

// Unwrap returns what was wrapped.
func (e *Error) Unwrap() error { return e.cause }

// Of returns err as a fault. An error that is none becomes internal_error, a context that ran out timeout; both keep err as
// the cause.
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

// KindOf is the kind of err, Internal for an error that is no fault.
func KindOf(err error) Kind { return Of(err).Kind }

// Is reports whether err is a fault of that kind.
func Is(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}

// Status is the HTTP status of err. This is the only place where one is decided.
func Status(err error) int { return statuses[KindOf(err)] }

// Retryable reports whether the same input can succeed later, so that a consumer or job tries again instead of parking
// it. Internal counts as retryable: a database that went away arrives as an error that nobody classified.
func Retryable(err error) bool {
	switch KindOf(err) {
	case Internal, Unavailable, Timeout, BadGateway, Limited:
		return true
	default:
		return false
	}
}
