package calls_test

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/calls"
)

func TestAQuotaRefusesTheNextUpload(t *testing.T) {
	t.Parallel()
	audio, quota := recording(t, 2), calls.Quota{StoredMB: 1, MinutesPerDay: 1, PendingCalls: 2}
	for scope, set := range map[string]func(*calls.Config){
		"agent": func(c *calls.Config) { c.AgentQuota = quota },
		"team":  func(c *calls.Config) { c.TeamQuota = quota },
	} {
		a := start(t, set)
		for _, limit := range []string{"pending_calls", "minutes_per_day", "stored_bytes"} {
			t.Run(scope+"_"+limit, func(t *testing.T) { a.lend(t).refusesBeyond(scope, limit, audio) })
		}
	}
}

// refusesBeyond uploads up to a limit, which is the only one that is reached.
func (a *app) refusesBeyond(scope, limit string, audio []byte) {
	t := a.T
	t.Helper()
	working := a.blocked()
	first := a.upload(a.Agent, audio, nil).Is(http.StatusAccepted).Text("id")
	switch limit {
	case "pending_calls":
		a.upload(a.Agent, audio, nil).Is(http.StatusAccepted)
	case "minutes_per_day":
		pgtest.Column[float64](t, a.DB, `
			insert into audio_days values ((now() at time zone 'UTC')::date, $1, 60) on conflict (day, agent_id) do update set seconds = 60 returning seconds`, a.Agent.AgentID)
	case "stored_bytes":
		pgtest.Column[string](t, a.DB, `update calls set size_bytes = 1 << 20 where id = $1 returning id::text`, first)
	}
	files := len(a.files())
	refused := a.upload(a.Agent, audio, nil)
	refused.Fails(http.StatusTooManyRequests, "quota_exceeded")
	require.Equal(t, scope+"_"+limit, refused.Text("limit"))
	after, err := strconv.Atoi(refused.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.Positive(t, after)
	require.LessOrEqual(t, after, 24*60*60)
	require.Len(t, a.files(), files)

	if scope == "team" {
		a.upload(a.Other, audio, nil).Fails(http.StatusTooManyRequests, "quota_exceeded")
	} else {
		a.upload(a.Other, audio, nil).Is(http.StatusAccepted)
	}
	close(working)
	a.Do(a.Agent, http.MethodDelete, "/calls/"+first, "").Is(http.StatusNoContent)
	if limit == "minutes_per_day" {
		a.upload(a.Agent, audio, nil).Fails(http.StatusTooManyRequests, "quota_exceeded") // a deletion gives no minutes back
		return
	}
	a.upload(a.Agent, audio, nil).Is(http.StatusAccepted)
}

// blocked makes the provider wait until the channel is closed.
func (a *app) blocked() chan struct{} {
	gate := make(chan struct{})
	wait := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
			reply(w, map[string]any{"text": transcript})
		case <-r.Context().Done():
		}
	})
	a.ai.onTranscribe.Store(&wait)
	return gate
}
