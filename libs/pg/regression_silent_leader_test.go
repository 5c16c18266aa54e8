package pg_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A leader that hung or was cut off once held its lock for hours, and no event of its service was published meanwhile.
func TestTheServerDisconnectsASilentLeader(t *testing.T) {
	t.Parallel()
	db := numbers(t)
	conn, release, err := db.Lead(t.Context(), "test")
	require.NoError(t, err)
	defer release()
	for setting, want := range map[string]string{"idle_session_timeout": "1min", "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"} {
		var got string
		require.NoError(t, conn.QueryRow(t.Context(), "show "+setting).Scan(&got))
		require.Equal(t, want, got, setting)
	}
	var pooled string
	require.NoError(t, db.Conn(t.Context()).QueryRow(t.Context(), "show idle_session_timeout").Scan(&pooled))
	require.Equal(t, "0", pooled, "connections of the pool may stay idle")
}
