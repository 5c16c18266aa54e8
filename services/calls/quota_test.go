package calls_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/calls"
)

func TestAQuotaRefusesTheNextUpload(t *testing.T) {
	t.Parallel()
	audio := recording(t, 2)
	for limit, set := range map[string]func(*calls.Config){
		"agent_pending_calls":   func(c *calls.Config) { c.AgentQuota.PendingCalls = 2 },
		"agent_minutes_per_day": func(c *calls.Config) { c.AgentQuota.MinutesPerDay = 1 },
		"agent_stored_bytes":    func(c *calls.Config) { c.AgentQuota.StoredMB = 1 },
		"team_pending_calls":    func(c *calls.Config) { c.TeamQuota.PendingCalls = 2 },
		"team_minutes_per_day":  func(c *calls.Config) { c.TeamQuota.MinutesPerDay = 1 },
		"team_stored_bytes":     func(c *calls.Config) { c.TeamQuota.StoredMB = 1 },
	} {
		t.Run(limit, func(t *testing.T) {
			t.Parallel()
			a := start(t, set)
			working := a.blocked()
			first := a.upload(a.Agent, audio, nil).Is(http.StatusAccepted).Text("id")
			a.upload(a.Agent, audio, nil).Is(http.StatusAccepted)
			if limit[len(limit)-5:] != "calls" {
				pgtest.Column[string](t, a.DB, `update calls set size_bytes = 1 << 20 where id = $1 returning id::text`, first)
				pgtest.Column[float64](t, a.DB, `
					insert into audio_days values ((now() at time zone 'UTC')::date, $1, 60) on conflict (day, agent_id) do update set seconds = 60 returning seconds`, a.Agent.AgentID)
			}
			files := len(a.files())
			refused := a.upload(a.Agent, audio, nil)
			refused.Fails(http.StatusTooManyRequests, "quota_exceeded")
			require.Equal(t, limit, refused.Text("limit"))
			after, err := strconv.Atoi(refused.Header.Get("Retry-After"))
			require.NoError(t, err)
			require.Positive(t, after)
			require.LessOrEqual(t, after, 24*60*60)
			require.Len(t, a.files(), files)

			if limit[:4] == "team" {
				a.upload(a.Other, audio, nil).Fails(http.StatusTooManyRequests, "quota_exceeded")
			} else {
				a.upload(a.Other, audio, nil).Is(http.StatusAccepted)
			}
			close(working)
			a.Do(a.Agent, http.MethodDelete, "/calls/"+first, "").Is(http.StatusNoContent)
			if strings.HasSuffix(limit, "minutes_per_day") {
				a.upload(a.Agent, audio, nil).Fails(http.StatusTooManyRequests, "quota_exceeded") // a deletion gives no minutes back
				return
			}
			a.upload(a.Agent, audio, nil).Is(http.StatusAccepted)
		})
	}
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
