package telemetry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTracesAreExportedWhereTheEnvironmentSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environment map[string]string
		exports     bool
		problem     string
	}{
		"nothing set":      {nil, false, ""},
		"an endpoint":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, true, ""},
		"one of traces":    {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}, true, ""},
		"the default one":  {map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true, ""},
		"none":             {map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, false, ""},
		"another exporter": {map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, false, "OTEL_TRACES_EXPORTER must be otlp or none"},
		"gRPC":             {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := exporter(t.Context(), func(name string) string { return c.environment[name] })
			if c.problem != "" {
				require.ErrorContains(t, err, c.problem)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.exports, got != nil)
			if got != nil {
				require.NoError(t, got.Shutdown(t.Context()))
			}
		})
	}
}
