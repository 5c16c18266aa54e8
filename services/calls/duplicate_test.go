package calls_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

func TestTheSameRecordingTwiceIsOneCall(t *testing.T) {
	t.Parallel()
	a := start(t)
	audio := recording(t, 2)
	once := map[string]string{"force": "false"}
	first := a.upload(a.Agent, audio, once).Is(http.StatusAccepted)
	require.Nil(t, first.Object()["duplicate_of"])
	id := first.Text("id")
	a.ended(id)

	again := a.upload(a.Agent, audio, once).Is(http.StatusAccepted)
	require.Equal(t, []string{id, id, "completed"}, []string{again.Text("id"), again.Text("duplicate_of"), again.Text("status")})
	require.Equal(t, transcript, again.Text("raw_transcript"), "it is the call as it is now")
	require.Len(t, a.files(), 1, "the second file was removed at once")
	require.Equal(t, int64(1), a.ai.transcriptions.Load())

	keyed := a.upload(a.Agent, audio, once, "Idempotency-Key", "k").Is(http.StatusAccepted)
	require.Equal(t, keyed.Body, a.upload(a.Agent, audio, once, "Idempotency-Key", "k").Is(http.StatusAccepted).Body)

	others := a.upload(a.Other, audio, once).Is(http.StatusAccepted)
	require.Nil(t, others.Object()["duplicate_of"], "another agent's is another call")
	forced := a.upload(a.Agent, audio, map[string]string{"force": "true"}).Is(http.StatusAccepted)
	require.Nil(t, forced.Object()["duplicate_of"])
	require.NotEqual(t, id, forced.Text("id"))
	require.Equal(t, forced.Text("id"), a.upload(a.Agent, audio, once).Text("id"), "the newest of them")
	require.Nil(t, a.upload(a.Agent, recording(t, 3), once).Is(http.StatusAccepted).Object()["duplicate_of"])
	require.Len(t, a.files(), 4)

	a.Do(a.Agent, http.MethodDelete, "/calls/"+forced.Text("id"), "").Is(http.StatusNoContent)
	require.Equal(t, id, a.upload(a.Agent, audio, once).Text("duplicate_of"))
	pgtest.Column[string](t, a.DB, `update calls set created_at = created_at - interval '25 hours' where id = $1 returning id::text`, id)
	require.Nil(t, a.upload(a.Agent, audio, once).Is(http.StatusAccepted).Object()["duplicate_of"], "a day later it is another call")
}

func TestTheSameRecordingAtTheSameTimeIsOneCall(t *testing.T) {
	t.Parallel()
	a := start(t)
	audio := recording(t, 2)
	const uploads = 8
	ids := make([]string, uploads)
	var wait sync.WaitGroup
	for i := range ids {
		wait.Go(func() {
			ids[i] = a.upload(a.Agent, audio, map[string]string{"force": "false"}).Text("id")
		})
	}
	wait.Wait()
	slices.Sort(ids)
	require.Len(t, slices.Compact(ids), 1)
	require.Len(t, a.files(), 1)
	require.Len(t, a.Get(a.Agent, "/calls").IDs(), 1)
	require.Equal(t, string(call.Completed), a.ended(ids[0])["status"])
}
