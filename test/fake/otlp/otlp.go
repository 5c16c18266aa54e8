// Package otlp is a fake OpenTelemetry collector: it receives traces over OTLP/HTTP (OTLP 1.x, binary protobuf, plain or gzip)
// and stores the spans for tests. It refuses JSON, metrics and logs.
package otlp

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/convoflow/convoflow/test/fake/script"
)

// maxBody is the maximum size of an uncompressed request, in bytes.
const maxBody = 64 << 20

const contentType = "application/x-protobuf"

// Span is one received span.
type Span struct {
	TraceID  string // hex
	SpanID   string // hex
	ParentID string // hex, empty for a root
	Name     string
	Kind     string // internal, server, client, producer, consumer, unspecified
	Service  string // service.name of the resource
	Message  string // of the status
	Events   string // names and attributes, as JSON
	Start    time.Time
	End      time.Time
	// Attributes are the span's own; a value that is no string is written as JSON.
	Attributes map[string]string
}

// Server is the collector. It is safe for concurrent use.
type Server struct {
	url   string
	spans script.Log[Span]
}

// New returns a collector for the caller to serve.
func New() *Server { return &Server{} }

// Start serves a collector on loopback until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := New()
	s.url = script.Start(t, s)
	return s
}

// URL returns the base URL, for OTEL_EXPORTER_OTLP_ENDPOINT. It is empty for a collector of New.
func (s *Server) URL() string { return s.url }

// Spans returns all spans received so far, in order of arrival.
func (s *Server) Spans() []Span { return s.spans.All() }

// WaitFor returns the spans once done returns true, and fails the test after script.Timeout.
func (s *Server) WaitFor(t testing.TB, done func([]Span) bool) []Span {
	t.Helper()
	return s.spans.WaitFor(t, done)
}

// ServeHTTP serves POST /v1/traces.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/traces" {
		refuse(w, http.StatusNotFound, code.Code_NOT_FOUND, "only /v1/traces is here")
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, code.Code_UNIMPLEMENTED, "only POST")
		return
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != contentType {
		refuse(w, http.StatusUnsupportedMediaType, code.Code_INVALID_ARGUMENT, "only "+contentType)
		return
	}
	var export collector.ExportTraceServiceRequest
	if err := read(w, r, &export); err != nil {
		refuse(w, http.StatusBadRequest, code.Code_INVALID_ARGUMENT, err.Error())
		return
	}
	for _, resource := range export.GetResourceSpans() {
		s.spans.Add(spansOf(resource)...)
	}
	answer(w, http.StatusOK, &collector.ExportTraceServiceResponse{})
}

func read(w http.ResponseWriter, r *http.Request, export proto.Message) error {
	body := io.Reader(r.Body)
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			return fmt.Errorf("unpack the body: %w", err)
		}
		body = unpacked
	default:
		return fmt.Errorf("content encoding %q is not known", encoding)
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, io.NopCloser(body), maxBody))
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	if err := proto.Unmarshal(raw, export); err != nil {
		return fmt.Errorf("decode the body: %w", err)
	}
	return nil
}

func spansOf(resource *trace.ResourceSpans) []Span {
	service := attributes(resource.GetResource().GetAttributes())["service.name"]
	var spans []Span
	for _, scope := range resource.GetScopeSpans() {
		for _, s := range scope.GetSpans() {
			spans = append(spans, Span{
				TraceID:    hex.EncodeToString(s.GetTraceId()),
				SpanID:     hex.EncodeToString(s.GetSpanId()),
				ParentID:   hex.EncodeToString(s.GetParentSpanId()),
				Name:       s.GetName(),
				Kind:       strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_")),
				Service:    service,
				Message:    s.GetStatus().GetMessage(),
				Events:     events(s.GetEvents()),
				Start:      time.Unix(0, int64(s.GetStartTimeUnixNano())),
				End:        time.Unix(0, int64(s.GetEndTimeUnixNano())),
				Attributes: attributes(s.GetAttributes()),
			})
		}
	}
	return spans
}

func events(list []*trace.Span_Event) string {
	var all strings.Builder
	for _, e := range list {
		all.WriteString(protojson.Format(e))
	}
	return all.String()
}

func attributes(list []*common.KeyValue) map[string]string {
	m := make(map[string]string, len(list))
	for _, kv := range list {
		m[kv.GetKey()] = text(kv.GetValue())
	}
	return m
}

func text(v *common.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_BoolValue:
		return strconv.FormatBool(v.BoolValue)
	case *common.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10)
	case *common.AnyValue_DoubleValue:
		return strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
	}
	return protojson.Format(v)
}

// refuse responds with the google.rpc.Status that OTLP/HTTP requires.
func refuse(w http.ResponseWriter, httpStatus int, c code.Code, message string) {
	answer(w, httpStatus, &status.Status{Code: int32(c), Message: message})
}

func answer(w http.ResponseWriter, httpStatus int, m proto.Message) {
	raw, err := proto.Marshal(m)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(httpStatus)
	_, _ = w.Write(raw)
}
