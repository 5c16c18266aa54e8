package otlp_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/convoflow/convoflow/test/fake/otlp"
)

func TestSpansOfTheSDKArrive(t *testing.T) {
	t.Parallel()
	for name, compression := range map[string]otlptracehttp.Compression{
		"plain": otlptracehttp.NoCompression,
		"gzip":  otlptracehttp.GzipCompression,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			collector := otlp.Start(t)
			tracer := tracer(t, collector.URL(), otlptracehttp.WithCompression(compression))

			ctx, parent := tracer.Start(t.Context(), "calls.upload", trace.WithSpanKind(trace.SpanKindServer))
			_, child := tracer.Start(ctx, "calls.store", trace.WithAttributes(
				attribute.String("call.type", "demo"), attribute.Int("attempt", 2), attribute.Bool("retry", true),
				attribute.Float64("share", 0.5), attribute.StringSlice("parts", []string{"a"})))
			child.End()
			parent.End()

			spans := collector.WaitFor(t, func(spans []otlp.Span) bool { return len(spans) == 2 })
			require.Equal(t, spans, collector.Spans())
			traceID, parentID := parent.SpanContext().TraceID().String(), parent.SpanContext().SpanID().String()
			attributes := spans[0].Attributes
			require.JSONEq(t, `{"arrayValue":{"values":[{"stringValue":"a"}]}}`, attributes["parts"])
			delete(attributes, "parts")
			for i, span := range spans {
				require.WithinRange(t, span.Start, time.Now().Add(-time.Hour), span.End)
				spans[i].Start, spans[i].End = time.Time{}, time.Time{}
			}
			require.Empty(t, cmp.Diff([]otlp.Span{
				{TraceID: traceID, SpanID: child.SpanContext().SpanID().String(), ParentID: parentID, Name: "calls.store", Kind: "internal", Service: "calls",
					Attributes: map[string]string{"call.type": "demo", "attempt": "2", "retry": "true", "share": "0.5"}},
				{TraceID: traceID, SpanID: parentID, Name: "calls.upload", Kind: "server", Service: "calls", Attributes: map[string]string{}},
			}, spans))
		})
	}
}

func TestWhatIsNoTraceIsRefusedAsTheSpecSays(t *testing.T) {
	t.Parallel()
	collector := otlp.Start(t)
	for name, c := range map[string]struct {
		path, contentType, encoding, body string
		want                              int
	}{
		"not protobuf":     {"/v1/traces", "application/x-protobuf", "", "nonsense", http.StatusBadRequest},
		"not gzip":         {"/v1/traces", "application/x-protobuf", "gzip", "nonsense", http.StatusBadRequest},
		"unknown encoding": {"/v1/traces", "application/x-protobuf", "br", "", http.StatusBadRequest},
		"json":             {"/v1/traces", "application/json", "", "{}", http.StatusUnsupportedMediaType},
		"metrics":          {"/v1/metrics", "application/x-protobuf", "", "", http.StatusNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, collector.URL()+c.path, bytes.NewBufferString(c.body))
			require.NoError(t, err)
			r.Header.Set("Content-Type", c.contentType)
			r.Header.Set("Content-Encoding", c.encoding)
			response, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			defer func() { _ = response.Body.Close() }()
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, c.want, response.StatusCode)
			var why status.Status
			require.NoError(t, proto.Unmarshal(body, &why))
			require.NotEmpty(t, why.GetMessage())
			require.Empty(t, collector.Spans())
		})
	}
}

func tracer(t *testing.T, url string, options ...otlptracehttp.Option) trace.Tracer {
	exporter, err := otlptracehttp.New(t.Context(), append(options, otlptracehttp.WithEndpointURL(url+"/v1/traces"))...)
	require.NoError(t, err)
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSyncer(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "calls"))),
	)
	return provider.Tracer("test")
}
