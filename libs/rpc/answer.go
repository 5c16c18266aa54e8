package rpc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/convoflow/convoflow/libs/fault"
)

// paged is one page of a list: a page.Of. The response is a JSON array, with a link to the next page in the header Link.
type paged interface {
	// Parts returns the items as a slice, and the cursor of the next page, which is empty on the last page.
	Parts() (items any, next string)
	// Show returns the page with view applied to each item.
	Show(view func(item any) any) any
}

// stallGrace is added to the read deadline, so that the operation's timeout ends the request first.
const stallGrace = 500 * time.Millisecond

// exchange is the state of one request and its response.
type exchange struct {
	requestID   string
	request     *http.Request
	writer      answerWriter
	buffer      *Buffer // of the body, until the response has been written
	fingerprint []byte  // of the body, for an Idempotency-Key
}

func (x *exchange) control() *http.ResponseController { return http.NewResponseController(&x.writer) }

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	if x == nil {
		return &exchange{}
	}
	return x
}

// answerWriter records whether the response has begun. After that, an error can only abort the connection.
type answerWriter struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader implements http.ResponseWriter.
func (w *answerWriter) WriteHeader(status int) {
	w.begun = w.begun || status >= http.StatusOK
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *answerWriter) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p)
}

// ReadFrom lets net/http use sendfile.
func (w *answerWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begun = true
	return io.Copy(w.ResponseWriter, r)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// RequestID returns the id of ctx's request, or "" outside a request.
func RequestID(ctx context.Context) string { return exchangeOf(ctx).requestID }

// RequestIDHeader carries the id of a request from the gateway to the services and back to the app. It is in net/http's canonical
// form, which makes lookups cheap.
const RequestIDHeader = "X-Request-Id"

// ExchangeIDHeader carries the id that the gateway gives to one exchange with a service. The response has it too, so that the gateway
// notices the late response to another request. An X-Request-Id cannot show that: clients choose it, and may choose the same again.
const ExchangeIDHeader = "X-Exchange-Id"

// CleanRequestID returns the id of a header if it is safe to log: 8 to 64 letters, digits, hyphens and underscores. Otherwise it
// returns a new id.
func CleanRequestID(sent string) string {
	if isID(sent) {
		return sent
	}
	return uuid.NewString()
}

func isID(sent string) bool {
	return len(sent) >= 8 && len(sent) <= 64 && strings.IndexFunc(sent, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	}) < 0
}

// WriteError writes an error response in the format of all errors: {"detail": …, "code": …, "request_id": …}, with the invalid
// fields in "errors". It does not contain the fault's cause.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.Of(err)
	id := RequestID(r.Context())
	if id == "" {
		id = w.Header().Get(RequestIDHeader)
	}
	body := map[string]any{}
	for name, value := range f.Extra {
		body[name] = value
	}
	body["code"], body["request_id"], body["detail"] = f.Code, id, f.Detail
	if len(f.Fields) > 0 {
		body["errors"] = f.Fields
	}
	h := w.Header()
	h.Del("ETag")
	h.Del("Content-Length")
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	if f.Kind == fault.Unauthenticated {
		h.Set("WWW-Authenticate", `Bearer realm="convoflow"`)
	}
	w.WriteHeader(fault.Status(err))
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // nosniff and the content type keep browsers from reading it as HTML
	_ = encoder.Encode(body)     // fails only if the client has disconnected
}

// writeJSON writes a value as the response. It encodes the value before it writes the header, so that a value that cannot be
// encoded still causes an error response.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, value any) error {
	if page, ok := value.(paged); ok {
		items, next := page.Parts()
		if value = items; reflect.ValueOf(items).IsNil() {
			value = []any{}
		}
		if next != "" {
			w.Header().Set("Link", nextLink(r.URL, next))
		}
	}
	raw, ok := value.(json.RawMessage)
	if !ok {
		var err error
		if raw, err = json.Marshal(value); err != nil {
			return fmt.Errorf("marshal the response: %w", err)
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	setCacheControl(h)
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && status == http.StatusOK && h.Get("ETag") == "" {
		sum := sha256.Sum256(raw)
		tag := `W/"` + hex.EncodeToString(sum[:12]) + `"` // weak, because the gateway may compress the same value
		if matches(r.Header.Get("If-None-Match"), tag) {
			return writeNotModified(w, tag)
		}
		h.Set("ETag", tag)
	}
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(status)
	_, _ = w.Write(raw) // fails only if the client has disconnected
	return nil
}

func setCacheControl(h http.Header) {
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "private, no-cache")
	}
}

// notModified is the response to a client that has the current version. It is the ETag.
type notModified string

func writeNotModified(w http.ResponseWriter, tag string) error {
	setCacheControl(w.Header())
	w.Header().Set("ETag", tag)
	w.WriteHeader(http.StatusNotModified)
	return nil
}

// matches compares ETags weakly, as RFC 9110 section 13.1.2 requires for If-None-Match.
func matches(header, tag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		candidate = strings.TrimSpace(candidate)
		if candidate == "*" || strings.TrimPrefix(candidate, "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}

func nextLink(u *url.URL, cursor string) string {
	query := u.Query()
	query.Set("cursor", cursor)
	query.Del("skip")
	return "<" + u.EscapedPath() + "?" + query.Encode() + `>; rel="next"`
}
