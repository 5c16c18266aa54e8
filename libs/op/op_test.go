package op_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/libs/telemetry/telemetrytest"
)

// Streams end so, when their client leaves.
func TestWhatTheCallerCancelsIsNoFault(t *testing.T) {
	t.Parallel()
	var log telemetrytest.Log
	tel := telemetry.Nop()
	tel.Log = slog.New(slog.NewTextHandler(&log, nil))
	chain, err := op.NewChain(tel, func(err error) error { return err })
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	_, err = chain.Wrap("things.watch", trace.SpanKindServer)(func(ctx context.Context, _ any) (any, error) {
		cancel()
		return nil, context.Cause(ctx)
	})(ctx, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.Contains(t, log.String(), "code=canceled")
	require.NotContains(t, log.String(), "internal_error")
}
