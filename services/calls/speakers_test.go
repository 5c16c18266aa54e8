package calls_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
)

// conversation uploads a call with one speaker on each channel, and returns it when it has ended.
func (a *app) conversation() map[string]any {
	a.T.Helper()
	stereo := recording(a.T, 1, "-f", "lavfi", "-i", "aevalsrc='if(lt(mod(t,8),4),0.3*sin(2764*t),0)|if(lt(mod(t,8),4),0,0.3*sin(4000*t))':s=16000:d=16", "-map", "1:a", "-c:a", "libopus", "-f", "ogg")
	a.ai.onTranscribe.Store(handler(func(w http.ResponseWriter, _ *http.Request) {
		text := "Do you like it? Take it."
		if a.ai.transcriptions.Load()%2 == 0 {
			text = "I like it. I will think about it."
		}
		reply(w, map[string]any{"text": text})
	}))
	got := a.ended(a.call(stereo))
	require.Equal(a.T, "completed", got["status"], got["error"])
	return got
}

// The parts of two speakers become one conversation with statistics.
func TestAStereoCallHasSpeakers(t *testing.T) {
	t.Parallel()
	a := start(t)
	got := a.conversation()
	require.Equal(t, map[string]any{"agent": map[string]any{"name": nil, "role": "agent"}, "client": map[string]any{"name": nil, "role": "client"}}, got["speakers"])
	talk := got["talk"].(map[string]any)
	require.InDelta(t, 0.5, talk["agent_ratio"], 0.2)
	require.NotEmpty(t, got["segments"])
	require.Equal(t, int64(2), a.ai.transcriptions.Load())
}

// The channels of the recording may be the other way round, and names were once lost on a second run.
func TestSpeakersAreNamedByPeople(t *testing.T) {
	t.Parallel()
	a := start(t)
	got := a.conversation()
	id := got["id"].(string)
	ratio := got["talk"].(map[string]any)["agent_ratio"].(float64)
	before := len(a.Follow(events.CallsTopic).Events(t, id, 3))

	got = a.patch(id, `{"speakers":{"agent":{"name":" Priya ","role":"client"},"client":{"role":"agent"}}}`)
	named := map[string]any{"agent": map[string]any{"name": "Priya", "role": "client"}, "client": map[string]any{"name": nil, "role": "agent"}}
	require.Equal(t, named, got["speakers"])
	require.InDelta(t, 1-ratio, got["talk"].(map[string]any)["agent_ratio"], 1e-9)
	require.Len(t, a.Follow(events.CallsTopic).Events(t, id, before+1), before+1)
	require.Contains(t, a.Get(a.Agent, "/calls/"+id+"/transcript?format=txt").Is(http.StatusOK).Body, "Priya: ")
	require.Contains(t, a.Get(a.Agent, "/calls/"+id+"/transcript?format=srt").Is(http.StatusOK).Body, "\nagent: ") // which part is transcribed first is not known
	version := got["updated_at"]
	require.Equal(t, version, a.patch(id, `{"speakers":{"agent":{"role":"client"}}}`)["updated_at"], "a change that changes nothing")

	path := "/calls/" + id
	require.Equal(t, []string{"speakers", "speakers"}, a.Do(a.Agent, http.MethodPatch, path, `{"speakers":{"A":{"name":"x"},"B":{"name":"y"},"agent":{"name":"z"}}}`).Wrong())
	a.Do(a.Agent, http.MethodPatch, path, `{"speakers":{"agent":{"role":"boss"}}}`).Fails(http.StatusUnprocessableEntity, "validation_error")
	a.Do(a.Agent, http.MethodPatch, path, `{"speakers":null}`).Fails(http.StatusUnprocessableEntity, "validation_error")
	a.Do(a.Other, http.MethodPatch, path, `{"speakers":{"agent":{"name":"x"}}}`).Fails(http.StatusForbidden, "call_forbidden")
	require.Equal(t, named, a.Get(a.Agent, path).Object()["speakers"])

	a.Do(a.Agent, http.MethodPost, path+"/retry", `{}`).Is(http.StatusAccepted)
	got = a.ended(id)
	require.Equal(t, named, got["speakers"], "they survive another run")
	require.InDelta(t, 1-ratio, got["talk"].(map[string]any)["agent_ratio"], 1e-9)
	require.Nil(t, a.patch(id, `{"speakers":{"agent":{"name":null}}}`)["speakers"].(map[string]any)["agent"].(map[string]any)["name"])
}
