package notify

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// A delivery that waits for the copy of a client is tried once a second: those tries send nothing. Its time in the queue ends with the
// first request.
func TestTheTimeInTheQueueIsOneSpan(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	tel := telemetry.Nop()
	tel.Traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	chain, err := op.NewChain(tel, func(err error) error { return err })
	require.NoError(t, err)
	created := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	now := created
	attempt := attempts(chain, tel, func() time.Time { return now })
	x := delivery.Delivery{
		CreatedAt: created, Lease: lease.Lease{Attempts: 1},
		Trace: map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
	}
	result := func(sent bool, err error) func(context.Context) (bool, error) {
		now = now.Add(time.Second)
		return func(context.Context) (bool, error) { return sent, err }
	}
	require.NoError(t, attempt(t.Context(), x, result(false, nil)))
	require.Error(t, attempt(t.Context(), x, result(false, errors.New("the database is away"))))
	require.NoError(t, attempt(t.Context(), x, result(true, nil)))
	x.Failures = 1
	require.NoError(t, attempt(t.Context(), x, result(true, nil)))

	var queued []sdktrace.ReadOnlySpan
	for _, s := range spans.Ended() {
		if s.Name() == "queue notify.attempt" {
			queued = append(queued, s)
		}
	}
	require.Len(t, queued, 1)
	require.Equal(t, created, queued[0].StartTime())
	require.Equal(t, created.Add(3*time.Second), queued[0].EndTime())
	require.Equal(t, "00f067aa0ba902b7", queued[0].Parent().SpanID().String())
}
