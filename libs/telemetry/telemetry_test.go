package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/telemetry"
)

func start(t *testing.T, cfg telemetry.Config) (telemetry.Set, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	tel, stop, err := telemetry.New(t.Context(), "crm", "1.2.3", cfg, &log)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stop(context.WithoutCancel(t.Context()))) })
	return tel, &log
}

func TestTheTraceIsInEachLogLine(t *testing.T) {
	t.Parallel()
	tel, log := start(t, telemetry.Defaults())
	ctx, span := tel.Tracer().Start(t.Context(), "crm.get")
	tel.Log.InfoContext(ctx, "inside")
	tel.Log.With("a", 1).InfoContext(ctx, "inside, with more")
	tel.Log.InfoContext(t.Context(), "outside")
	tel.Log.DebugContext(ctx, "below the level")
	span.End()

	var lines []map[string]any
	for d := json.NewDecoder(log); d.More(); {
		var line map[string]any
		require.NoError(t, d.Decode(&line))
		require.Equal(t, "crm", line["service"])
		lines = append(lines, line)
	}
	require.Len(t, lines, 3)
	for _, line := range lines[:2] {
		require.Equal(t, span.SpanContext().TraceID().String(), line["trace_id"])
		require.Equal(t, span.SpanContext().SpanID().String(), line["span_id"])
		require.Equal(t, telemetry.TraceID(ctx), line["trace_id"])
	}
	require.NotContains(t, lines[2], "trace_id")
	require.Empty(t, telemetry.TraceID(t.Context()))
}

func TestTextLogs(t *testing.T) {
	t.Parallel()
	tel, log := start(t, telemetry.Config{LogFormat: "text", LogLevel: slog.LevelDebug})
	ctx, span := tel.Tracer().Start(t.Context(), "x")
	defer span.End()
	tel.Log.WithGroup("g").DebugContext(ctx, "hello")
	require.Contains(t, log.String(), "msg=hello")
	require.Contains(t, log.String(), span.SpanContext().TraceID().String())
}

func TestATraceIsInjectedAndExtracted(t *testing.T) {
	t.Parallel()
	tel := telemetry.Nop()
	require.Empty(t, tel.Inject(t.Context()))
	ctx, span := tel.Tracer().Start(t.Context(), "first")
	headers := tel.Inject(ctx)
	require.Contains(t, headers["traceparent"], span.SpanContext().TraceID().String())
	require.Equal(t, telemetry.TraceID(ctx), telemetry.TraceID(telemetry.Nop().Extract(t.Context(), headers)))
	require.Empty(t, telemetry.TraceID(tel.Extract(t.Context(), map[string]string{"traceparent": "garbage"})))
	require.Equal(t, t.Context(), tel.Extract(t.Context(), nil))
}

func TestATraceIsCarriedInHTTPHeaders(t *testing.T) {
	t.Parallel()
	tel := telemetry.Nop()
	ctx, span := tel.Tracer().Start(t.Context(), "first")
	defer span.End()
	h := http.Header{"Authorization": {"Bearer x"}}
	tel.Propagator.Inject(ctx, telemetry.Header(h))
	require.Contains(t, h.Get("traceparent"), span.SpanContext().TraceID().String())
	h.Set("tracestate", "vendor=1")
	received := trace.SpanContextFromContext(tel.Propagator.Extract(t.Context(), telemetry.Header(h)))
	require.Equal(t, span.SpanContext().TraceID(), received.TraceID())
	require.Equal(t, "vendor=1", received.TraceState().String())
	require.ElementsMatch(t, []string{"Authorization", "Traceparent", "Tracestate"}, telemetry.Header(h).Keys())
	require.Empty(t, telemetry.Header(h).Get("baggage"))
}

func TestServicesShareNoMetrics(t *testing.T) {
	t.Parallel()
	one, _ := start(t, telemetry.Defaults())
	other, _ := start(t, telemetry.Defaults())
	require.NotSame(t, one.Metrics, other.Metrics)
	n, err := testutil.GatherAndCount(one.Metrics, "convoflow_build_info", "go_goroutines", "process_start_time_seconds")
	require.NoError(t, err)
	require.Equal(t, 3, n)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	require.Empty(t, telemetry.Defaults().Check())
	require.Len(t, telemetry.Config{LogFormat: "xml"}.Check(), 1)
}

// The exporter reads the environment of its process, so exporting is tested in a child process: this test binary with the
// variable exporting set.
const exporting = "TELEMETRY_TEST_EXPORTING"

func TestMain(m *testing.M) {
	if os.Getenv(exporting) == "" {
		os.Exit(m.Run())
	}
	tel, stop, err := telemetry.New(context.Background(), "crm", "1", telemetry.Defaults(), os.Stderr)
	if err != nil {
		panic(err)
	}
	_, span := tel.Tracer().Start(context.Background(), "exported")
	span.End()
	if err := stop(context.Background()); err != nil {
		panic(err)
	}
}

func TestNothingIsExportedWithoutSettings(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"without settings": false, "with an endpoint": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got atomic.Int64
			collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Add(1) }))
			t.Cleanup(collector.Close)
			self := exec.CommandContext(t.Context(), os.Args[0])
			// As the proxy, the collector receives every request, whatever its destination.
			self.Env = []string{exporting + "=1", "HTTP_PROXY=" + collector.URL, "HTTPS_PROXY=" + collector.URL}
			if want {
				self.Env = append(self.Env, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL)
			}
			out, err := self.CombinedOutput()
			require.NoError(t, err, string(out))
			require.Empty(t, string(out))
			require.Equal(t, want, got.Load() > 0)
		})
	}
}
