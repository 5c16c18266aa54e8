package deadletter

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/bus"
)

// topic is a dead-letter topic with the offsets from 0 to end, of which those before open have been requeued.
type topic struct {
	open, end int64
	sent      []int64
}

func (k *topic) DeadLetters(_ context.Context, name string, all bool) (found []bus.DeadLetter, _ error) {
	for offset := range k.end {
		if all || offset >= k.open {
			found = append(found, bus.DeadLetter{DeadLetterTopic: name, Group: "notify", Offset: offset})
		}
	}
	return found, nil
}

func (k *topic) Requeue(_ context.Context, _ string, letters []bus.DeadLetter, upTo int64) error {
	for _, d := range letters {
		k.sent = append(k.sent, d.Offset)
	}
	if upTo > 0 {
		k.open = upTo
	}
	return nil
}

// A single message that was requeued stayed in the list, and the next requeue of all sent it again.
func TestASingleRequeueIsMarkedIfItCanBe(t *testing.T) {
	t.Parallel()
	k := &topic{open: 1, end: 5}
	requeued := func(offset int64) string {
		var out strings.Builder
		k.sent = nil
		require.NoError(t, Requeue(t.Context(), k, "crm.clients.v1.notify.dlq", offset, &out))
		return out.String()
	}
	require.NotContains(t, requeued(1), "stays")
	require.Equal(t, []int64{1}, k.sent)
	require.EqualValues(t, 2, k.open, "the oldest is marked")

	require.Contains(t, requeued(3), "It stays in the list, because older ones have not been requeued, from offset 2 on.")
	require.Equal(t, []int64{3}, k.sent)
	require.EqualValues(t, 2, k.open)

	require.Contains(t, requeued(0), "It had been requeued before.")
	require.Equal(t, []int64{0}, k.sent)
	require.EqualValues(t, 2, k.open, "the mark does not go back")

	require.Contains(t, requeued(-1), "Requeued 3 to notify.")
	require.Equal(t, []int64{2, 3, 4}, k.sent)
	require.EqualValues(t, 5, k.open)
	require.Contains(t, requeued(-1), "There are no dead letters to requeue.")
	require.Empty(t, k.sent)
	require.Error(t, Requeue(t.Context(), k, "crm.clients.v1.notify.dlq", 9, &strings.Builder{}))
}
