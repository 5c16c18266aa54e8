package rpc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/convoflow/convoflow/libs/fault"
)

// List is one page of a list: a JSON array, with the next page in the header Link.
type List struct {
	Items any    // a slice; nil becomes []
	Next  string // cursor of the next page, empty on the last
}

// exchange is what the parts of one request share.
type exchange struct {
	requestID string
	request   *http.Request
	body      []byte // of a checked body, for the fingerprint of an idempotent request
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	e, _ := ctx.Value(exchangeKey{}).(*exchange)
	if e == nil {
		return &exchange{}
	}
	return e
}

// RequestID is the id of the request that ctx belongs to, empty outside of one.
func RequestID(ctx context.Context) string { return exchangeOf(ctx).requestID }

// RequestIDHeader carries the id of a request from the gateway to the services and back to the app. It is written as
// net/http keeps it, which makes finding it cheap.
const RequestIDHeader = "X-Request-Id"

// CleanRequestID returns the id that a header carries if it is harmless to log, else a new one.
func CleanRequestID(sent string) string {
	ok := len(sent) >= 8 && len(sent) <= 64 && strings.IndexFunc(sent, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	}) < 0
	if ok {
		return sent
	}
	return uuid.NewString()
}

// WriteError answers with an error in the one shape that all errors have:
// {"detail": …, "code": …, "request_id": …}. What a fault wraps is not in it.
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
	body["code"], body["request_id"], body["detail"] = f.Code, id, any(f.Detail)
	if len(f.Fields) > 0 {
		body["detail"] = f.Fields
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
	_ = encoder.Encode(body)     // the client is gone when this does not work
}

// writeJSON answers with a value. It is encoded before the header is written, so that a value that cannot be is still an
// error answer.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, value any) error {
	if list, ok := value.(List); ok {
		value = list.Items
		if v := reflect.ValueOf(value); !v.IsValid() || v.IsNil() {
			value = []any{}
		}
		if list.Next != "" {
			w.Header().Set("Link", nextLink(r.URL, list.Next))
		}
	}
	raw, ok := value.(json.RawMessage)
	if !ok {
		var err error
		if raw, err = json.Marshal(value); err != nil {
			return fmt.Errorf("marshal the answer: %w", err)
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "private, no-cache")
	}
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && status == http.StatusOK {
		sum := sha256.Sum256(raw)
		// Weak, because the gateway may compress the same value.
		tag := `W/"` + hex.EncodeToString(sum[:12]) + `"`
		h.Set("ETag", tag)
		if matches(r.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(status)
	_, _ = w.Write(raw) // the client is gone when this does not work
	return nil
}

// matches compares weakly, as RFC 9110 section 13.1.2 wants it for If-None-Match.
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
