package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// protocol is the only one that traces are exported with. gRPC would be 2 MB more of each binary.
const protocol = "http/protobuf"

// exporter returns what exports traces to where OpenTelemetry's variables say, nil if they do not. Without any of them the library
// itself would export to localhost:4318.
func exporter(ctx context.Context, getenv func(string) string) (sdktrace.SpanExporter, error) {
	kind, endpoint := getenv("OTEL_TRACES_EXPORTER"), cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if kind == "none" || kind == "" && endpoint == "" {
		return nil, nil
	}
	if kind != "" && kind != "otlp" {
		return nil, errors.New("OTEL_TRACES_EXPORTER must be otlp or none")
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if cmp.Or(getenv(name), protocol) != protocol {
			return nil, fmt.Errorf("%s must be %s, with the collector's port for it, such as 4318", name, protocol)
		}
	}
	return otlptracehttp.New(ctx)
}
