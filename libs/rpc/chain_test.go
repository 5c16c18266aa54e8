package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/op"
)

// counted returns the number of operations by op and result.
func counted(t *testing.T, registry *prometheus.Registry) map[[2]string]uint64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	out := map[[2]string]uint64{}
	for _, f := range families {
		if f.GetName() != "convoflow_operations_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			out[[2]string{label(m, "op"), label(m, "result")}] = uint64(m.GetCounter().GetValue())
			require.Equal(t, "test", label(m, "service"))
		}
	}
	return out
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func attributes(span sdktrace.ReadOnlySpan) map[string]string {
	out := map[string]string{}
	for _, a := range span.Attributes() {
		out[string(a.Key)] = a.Value.AsString()
	}
	return out
}

func TestEachOperationIsTracedLoggedAndMeasured(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	s.do(t, request{method: "GET", target: "/things", header: with("Traceparent", parent)})
	s.do(t, request{method: "POST", target: "/things", body: `{}`})
	s.do(t, request{method: "GET", target: "/trouble/unknown"})
	s.do(t, request{method: "GET", target: "/trouble/panic"})

	require.Equal(t, map[[2]string]uint64{
		{"things.list", "ok"}: 1, {"things.create", "validation_error"}: 1, {"things.trouble", "internal_error"}: 2,
	}, counted(t, s.tel.Metrics))

	spans := s.spans.Ended()
	require.Len(t, spans, 4)
	list, create, unknown, panicked := spans[0], spans[1], spans[2], spans[3]
	require.Equal(t, "things.list", list.Name())
	require.Equal(t, trace.SpanKindServer, list.SpanKind())
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", list.SpanContext().TraceID().String(), "the span joins the trace")
	require.Equal(t, "b7ad6b7169203331", list.Parent().SpanID().String())
	require.Equal(t, "things.create", create.Name())
	require.Equal(t, codes.Unset, create.Status().Code, "a client error does not mark the span as failed")
	require.Equal(t, "validation_error", attributes(create)["error.type"])
	for _, span := range []sdktrace.ReadOnlySpan{unknown, panicked} {
		require.Equal(t, codes.Error, span.Status().Code)
		require.NotContains(t, span.Status().Description, "secret")
	}

	var lines []map[string]any
	for d := json.NewDecoder(bytes.NewReader(s.log.Bytes())); d.More(); {
		var line map[string]any
		require.NoError(t, d.Decode(&line))
		lines = append(lines, line)
	}
	require.Len(t, lines, 5)
	require.Equal(t, []any{"DEBUG", "INFO", "ERROR", "ERROR", "ERROR"}, []any{lines[0]["level"], lines[1]["level"], lines[2]["level"], lines[3]["level"], lines[4]["level"]})
	require.Equal(t, "things.create", lines[1]["op"])
	require.Contains(t, lines[2]["error"], "secret of the error")
	require.Contains(t, lines[3]["stack"], "service_test.go", "where it panicked")
}

func TestAnUnauthenticatedRequestIsNotAnOperation(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	s.do(t, request{method: "GET", target: "/things", header: http.Header{"Authorization": nil}})
	require.Empty(t, s.spans.Ended())
	require.Empty(t, counted(t, s.tel.Metrics))
}

func TestAClientThatDisconnectsIsNotAnError(t *testing.T) {
	t.Parallel()
	s, err := newRouter(t, things, nil)
	require.NoError(t, err)
	ctx, disconnect := context.WithCancel(t.Context())
	_, err = s.chain.Wrap("things.wait", trace.SpanKindServer)(func(ctx context.Context, _ any) (any, error) {
		disconnect()
		<-ctx.Done()
		return nil, errors.Join(errors.New("query"), ctx.Err())
	})(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, s.log.String(), `"level":"ERROR"`)
	require.Equal(t, codes.Unset, s.spans.Ended()[0].Status().Code)
}

func TestAChainReturnsResponsesAndClassifiesErrors(t *testing.T) {
	t.Parallel()
	s, err := newRouter(t, things, nil)
	require.NoError(t, err)
	run := func(method func(context.Context, int) (string, error)) (any, error) {
		return s.chain.Wrap("things.do", trace.SpanKindConsumer)(func(ctx context.Context, n any) (any, error) { return method(ctx, n.(int)) })(t.Context(), 7)
	}
	response, err := run(func(_ context.Context, n int) (string, error) { return string(rune('0' + n)), nil })
	require.NoError(t, err)
	require.Equal(t, "7", response)
	_, err = run(func(context.Context, int) (string, error) { return "", errUnavailable })
	require.True(t, fault.Is(err, fault.Unavailable))
	require.ErrorIs(t, err, errUnavailable)
	_, err = run(func(context.Context, int) (string, error) { panic("x") })
	require.True(t, fault.Is(err, fault.Defect))
	require.True(t, fault.Is(s.chain.Classify(errUnavailable), fault.Unavailable))
	require.Equal(t, trace.SpanKindConsumer, s.spans.Ended()[0].SpanKind())
}

func TestOneRegistryHasOneChain(t *testing.T) {
	t.Parallel()
	s := start(t, nil)
	_, err := op.NewChain(s.tel, classify)
	require.ErrorContains(t, err, "register the operations' metric")
}
