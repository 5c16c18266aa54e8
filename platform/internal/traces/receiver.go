package traces

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const (
	maxBody     = 16 << 20 // bytes of a request, uncompressed
	contentType = "application/x-protobuf"
)

// receive stores the spans of a request to /v1/traces.
func (v *Viewer) receive(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") != contentType {
		http.Error(w, "only "+contentType, http.StatusUnsupportedMediaType)
		return
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, "the body is not gzip", http.StatusBadRequest)
			return
		}
		body = unpacked
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, io.NopCloser(body), maxBody))
	var export collector.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(raw, &export) != nil {
		http.Error(w, "the body is too large or no ExportTraceServiceRequest", http.StatusBadRequest)
		return
	}
	for _, resource := range export.GetResourceSpans() {
		service := ""
		for _, a := range attributes(resource.GetResource().GetAttributes()) {
			if a.Name == "service.name" {
				service = strings.TrimPrefix(a.Value, "convoflow-")
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				v.traces.add(hex.EncodeToString(s.GetTraceId()), spanOf(service, s))
			}
		}
	}
	w.Header().Set("Content-Type", contentType) // an empty message is an empty body
}

func spanOf(service string, s *otlp.Span) Span {
	start := time.Unix(0, int64(s.GetStartTimeUnixNano()))
	span := Span{
		ID: hex.EncodeToString(s.GetSpanId()), ParentID: hex.EncodeToString(s.GetParentSpanId()), Name: text(s.GetName()), Service: text(service),
		Kind:  strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_")),
		Start: start, End: start.Add(max(0, time.Duration(s.GetEndTimeUnixNano()-s.GetStartTimeUnixNano()))),
		Failed: s.GetStatus().GetCode() == otlp.Status_STATUS_CODE_ERROR, Message: text(s.GetStatus().GetMessage()), Attributes: attributes(s.GetAttributes()),
	}
	for _, e := range s.GetEvents() {
		span.Events = append(span.Events, Event{Name: text(e.GetName()), After: time.Unix(0, int64(e.GetTimeUnixNano())).Sub(start), Attributes: attributes(e.GetAttributes())})
	}
	return span
}

func attributes(list []*common.KeyValue) []Attribute {
	out := make([]Attribute, len(list))
	for i, kv := range list {
		out[i] = Attribute{text(kv.GetKey()), text(value(kv.GetValue()))}
	}
	return out
}

func value(v *common.AnyValue) string {
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

func text(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "") }
