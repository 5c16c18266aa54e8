package traces_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/platform/internal/traces"
)

// start returns the address of a viewer, and a tracer that exports to it when it is flushed.
func start(t *testing.T) (url string, tracer trace.Tracer, flush func()) {
	t.Helper()
	v, err := traces.New()
	require.NoError(t, err)
	server := httptest.NewServer(v.Handler())
	t.Cleanup(server.Close)
	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(server.URL+"/v1/traces"), otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	require.NoError(t, err)
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(100_000)), sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "convoflow-calls"))))
	t.Cleanup(func() { _ = provider.Shutdown(context.WithoutCancel(t.Context())) })
	return server.URL, provider.Tracer("test"), func() { require.NoError(t, provider.ForceFlush(t.Context())) }
}

func get(t *testing.T, url string) (status int, body string, header http.Header) {
	t.Helper()
	res, err := http.Get(url)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(raw), res.Header
}

func TestATraceIsAWaterfall(t *testing.T) {
	t.Parallel()
	url, tracer, flush := start(t)
	_, body, _ := get(t, url+"/traces")
	require.Contains(t, body, "Nothing yet")

	ctx, root := tracer.Start(t.Context(), "calls.upload")
	_, child := tracer.Start(ctx, `<script>alert("x")</script>`, trace.WithAttributes(attribute.String("call.type", `"><b>demo`), attribute.Int("attempt", 2)))
	child.AddEvent("update calls")
	child.SetStatus(codes.Error, "storage_unavailable")
	child.End()
	root.End()
	flush()

	id := root.SpanContext().TraceID().String()
	status, body, header := get(t, url+"/traces")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `<a href="/traces/`+id+`">calls.upload</a> <span class="failed">failed</span>`)
	require.NotContains(t, header.Get("Content-Security-Policy"), "unsafe")
	_, body, _ = get(t, url+"/traces?q=nothing+like+it")
	require.NotContains(t, body, id)

	status, body, _ = get(t, url+"/traces/"+id)
	require.Equal(t, http.StatusOK, status)
	for _, part := range []string{"2 spans", `class="name d0"`, `class="name d1"`, "&lt;script&gt;", "storage_unavailable", "call.type", "update calls", ">calls</span>"} {
		require.Contains(t, body, part)
	}
	require.NotContains(t, body, "<script>")
	require.NotContains(t, body, "<b>demo")
	status, _, _ = get(t, url+"/traces/00000000000000000000000000000000")
	require.Equal(t, http.StatusNotFound, status)
}

func TestOnlyTheNewestTracesAreStored(t *testing.T) {
	t.Parallel()
	url, tracer, flush := start(t)
	var ids []string
	for n := range 310 {
		_, span := tracer.Start(t.Context(), fmt.Sprint("operation ", n))
		span.End()
		ids = append(ids, span.SpanContext().TraceID().String())
	}
	ctx, root := tracer.Start(t.Context(), "large")
	for range 1100 {
		_, span := tracer.Start(ctx, "part")
		span.End()
	}
	root.End()
	flush()
	_, body, _ := get(t, url+"/traces")
	require.Equal(t, 300, strings.Count(body, `<a href="/traces/`))
	require.NotContains(t, body, ids[10])
	require.Contains(t, body, ids[11])
	_, body, _ = get(t, url+"/traces/"+root.SpanContext().TraceID().String())
	require.Equal(t, 1000, strings.Count(body, "<details"))
	require.Contains(t, body, "101 more spans were not stored")
}

func TestWhatIsNoTraceIsRefused(t *testing.T) {
	t.Parallel()
	url, _, _ := start(t)
	for contentType, want := range map[string]int{"application/json": http.StatusUnsupportedMediaType, "application/x-protobuf": http.StatusBadRequest} {
		res, err := http.Post(url+"/v1/traces", contentType, strings.NewReader("nonsense"))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, res.StatusCode, contentType)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/traces", nil)
	require.NoError(t, err)
	r.Host = "evil.example.com" // which resolves to 127.0.0.1
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusForbidden, res.StatusCode)
}
