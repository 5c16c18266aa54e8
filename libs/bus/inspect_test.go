package bus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/event/eventtest"
)

func TestAGroupReadsAgainWhatWasPublishedSinceATime(t *testing.T) {
	t.Parallel()
	s := start(t)
	relay := s.run(t, s.outbox.Relay(s.kafka))
	defer relay()
	stop := s.run(t, s.consumer(t, s.apply))
	s.publish(t, client("018f3a52-6e2f-7cc3-9d2e-0c1de9f0a001", "a", 1), client("018f3a52-6e2f-7cc3-9d2e-0c1de9f0a002", "b", 1))
	s.await(t, 2)

	_, err := s.kafka.Rewind(t.Context(), "test", time.Time{}, false)
	require.ErrorIs(t, err, bus.ErrConsuming)
	stop()
	require.Eventually(t, func() bool {
		_, err = s.kafka.Rewind(t.Context(), "test", time.Now().Add(time.Hour), false)
		return err == nil
	}, time.Minute, 50*time.Millisecond, "the group has no members any more")
	planned, err := s.kafka.Rewind(t.Context(), "test", time.Unix(1, 0), true)
	require.NoError(t, err)
	rewound, err := s.kafka.Rewind(t.Context(), "test", time.Unix(1, 0), false)
	require.NoError(t, err)
	require.Equal(t, planned, rewound, "the dry run changed nothing")
	var again int64
	for _, r := range rewound {
		require.Equal(t, eventtest.Topics()[0].Name, r.Topic)
		again += r.To - r.From
	}
	require.EqualValues(t, 2, again)
	lags, err := s.kafka.Lags(t.Context(), "test")
	require.NoError(t, err)
	require.Len(t, lags, 1)
	require.EqualValues(t, 2, lags[0].Messages)

	// The inbox ignores what it has; what it has lost, as after a restore, is applied.
	_, err = s.db.Pool().Exec(t.Context(), `delete from inbox where event_id::text = (select event_id from applied order by id limit 1)`)
	require.NoError(t, err)
	s.run(t, s.consumer(t, s.apply))
	s.await(t, 3)
}

func TestInspectFindsWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := start(t)
	found, err := s.kafka.Inspect(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, found.Brokers)
	require.Len(t, found.Missing, len(eventtest.Topics()))
	require.NoError(t, s.kafka.Ensure(t.Context()))
	found, err = s.kafka.Inspect(t.Context())
	require.NoError(t, err)
	require.Empty(t, found.Missing)
	require.Equal(t, bus.TopicState{Partitions: 3, Replicas: 1}, found.Topics[eventtest.Topics()[0].Name])
}
