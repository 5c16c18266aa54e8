package bus

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
)

// While Kafka cannot be asked, nothing is measured, and the oldest message still gets older.
func TestTheLagGrowsDuringAnOutage(t *testing.T) {
	t.Parallel()
	c := clock.At(time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC))
	l := newLag("crm", c)
	l.set("handled", 0, time.Time{})
	l.set("behind", 3, c.Now().Add(-time.Second))
	c.Advance(time.Minute)
	require.NoError(t, testutil.CollectAndCompare(l, strings.NewReader(`
		# HELP convoflow_consumer_lag_messages Messages that the group has not handled. All replicas report the whole group.
		# TYPE convoflow_consumer_lag_messages gauge
		convoflow_consumer_lag_messages{service="crm",topic="behind"} 3
		convoflow_consumer_lag_messages{service="crm",topic="handled"} 0
		# HELP convoflow_consumer_lag_seconds Age of the oldest message that the group has not handled. All replicas report the whole group.
		# TYPE convoflow_consumer_lag_seconds gauge
		convoflow_consumer_lag_seconds{service="crm",topic="behind"} 61
		convoflow_consumer_lag_seconds{service="crm",topic="handled"} 0
	`)))
}
