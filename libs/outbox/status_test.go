package outbox_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestTheStatusOfAnOutbox(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t, outbox.Migrations())
	box := outbox.New(db, telemetry.Nop())
	written := func() string {
		s, err := box.Status(t.Context())
		require.NoError(t, err)
		var out strings.Builder
		require.NoError(t, s.Write(&out, "crm"))
		return out.String()
	}
	require.Contains(t, written(), "nothing waits")
	require.Contains(t, written(), "nobody")
	require.NoError(t, box.Append(t.Context(), event.Event{ID: "018f3a52-6e2f-7cc3-9d2e-0c1de9f0a001", Topic: "crm.clients.v1", Key: "1", Type: "client.created", Data: []byte("{}")}))
	_, release, err := db.Lead(t.Context(), "outbox")
	require.NoError(t, err)
	defer release()
	require.Contains(t, written(), "crm.clients.v1")
	require.Contains(t, written(), "1 waiting")
	require.NotContains(t, written(), "nobody")
	_, err = db.Pool().Exec(t.Context(), "update outbox set created_at = now() - interval '1 hour'")
	require.NoError(t, err)
	s, err := box.Status(t.Context())
	require.NoError(t, err)
	require.InDelta(t, 3600, s.Oldest().Seconds(), 60)
}
