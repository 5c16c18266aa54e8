package call_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Each client has a partition of its own, so the events of two merges and of an erasure arrive in any order.
func TestCallsFollowAMergedClientToTheEnd(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		for _, erased := range []string{"never", "before", "after"} {
			f := open(t)
			svc, me := f.service(call.Retention{}), event.NewID()
			clients := map[string]string{"a": event.NewID(), "b": event.NewID(), "c": event.NewID()}
			for _, id := range clients {
				require.NoError(t, svc.Clients.Upsert(t.Context(), call.Client{ID: id, AgentID: me, Version: 1}))
			}
			id := f.transcribed(t, noon(), func(c *call.Call) { c.Details.ClientID = new(clients["a"]) })
			erase := func(when string) {
				if when == erased {
					x := events.Erasure{ErasureID: event.NewID(), Kind: events.KindClient, SubjectID: clients["c"], SubjectVersion: 2, RequestedBy: me}
					require.NoError(t, svc.OnErasureRequested(t.Context(), event.Received[events.Erasure]{Data: x}))
				}
			}
			erase("before")
			for _, merged := range order {
				into := map[string]string{"a": clients["b"], "b": clients["c"]}[merged]
				e := event.Received[events.Client]{Data: events.Client{ClientID: clients[merged], Version: 2, AgentID: me, MergedInto: &into}}
				require.NoError(t, svc.OnClientDeleted(t.Context(), e))
			}
			erase("after")
			c, err := f.calls.Find(t.Context(), id)
			if erased != "never" {
				require.True(t, fault.Is(err, fault.NotFound), "%v, erased %s", order, erased)
				require.Equal(t, []string{id}, f.erasures(t))
				continue
			}
			require.NoError(t, err)
			require.Equal(t, clients["c"], *c.Details.ClientID, order)
		}
	}
}
