package calls_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
)

func TestARecordingIsPlayedByItsLink(t *testing.T) {
	t.Parallel()
	a := start(t)
	audio := recording(t, 2)
	id, other := a.call(audio), a.call(audio)
	a.ended(id)
	made := a.Do(a.Agent, http.MethodPost, "/calls/"+id+"/audio-url", "").Is(http.StatusOK)
	link := made.Text("url")
	expires, err := time.Parse(time.RFC3339, made.Text("expires_at"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(15*time.Minute), expires, time.Minute)

	get := func(path string, header ...string) (int, string, http.Header) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+path, nil)
		require.NoError(t, err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(body), res.Header
	}
	status, body, header := get(link)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, string(audio), body)
	require.Equal(t, `inline; filename=call.ogg`, header.Get("Content-Disposition"))
	status, body, header = get(link, "Range", "bytes=4-9")
	require.Equal(t, http.StatusPartialContent, status)
	require.Equal(t, string(audio[4:10]), body)
	status, _, _ = get(link, "If-None-Match", header.Get("ETag"))
	require.Equal(t, http.StatusNotModified, status)

	_, token, _ := strings.Cut(link, "?token=")
	seconds, sum, _ := strings.Cut(token, ".")
	for name, wrong := range map[string]string{
		"another call":  "/calls/" + other + "/audio?token=" + token,
		"another time":  "/calls/" + id + "/audio?token=9" + seconds + "." + sum,
		"no signature":  "/calls/" + id + "/audio?token=" + seconds + ".",
		"no time":       "/calls/" + id + "/audio?token=." + sum,
		"padded":        link + "=",
		"spelled anew":  "/calls/" + id + "/audio?token=0" + seconds + "." + sum,
		"an agent's":    "/calls/" + id + "/audio?token=x" + a.Token(a.Agent)[:80],
		"missing call":  "/calls/" + event.NewID() + "/audio?token=" + token,
		"not a number":  "/calls/" + id + "/audio?token=x",
		"signed longer": link + "A",
	} {
		status, body, _ = get(wrong)
		require.Equal(t, http.StatusForbidden, status, name)
		require.Contains(t, body, "audio_link_invalid", name)
	}
	status, _, _ = get("/calls/" + id + "/audio?token=")
	require.Equal(t, http.StatusUnprocessableEntity, status)
	for _, path := range []string{"/calls/" + id + "/audio", "/calls/" + id + "?token=" + token, "/calls/" + id + "/audio-url?token=" + token} {
		status, _, _ = get(path)
		require.Contains(t, []int{http.StatusUnauthorized, http.StatusMethodNotAllowed}, status, path)
	}

	a.Do(a.Other, http.MethodPost, "/calls/"+id+"/audio-url", "").Fails(http.StatusForbidden, "call_forbidden")
	a.Do(a.Agent, http.MethodPost, "/calls/"+event.NewID()+"/audio-url", "").Fails(http.StatusNotFound, "call_not_found")
	written := a.Do(a.Agent, http.MethodPost, "/calls", `{"call_tag":"no_answer"}`).Is(http.StatusCreated).Text("id")
	a.Do(a.Agent, http.MethodPost, "/calls/"+written+"/audio-url", "").Fails(http.StatusNotFound, "audio_not_found")
	a.Do(a.Agent, http.MethodDelete, "/calls/"+id, "").Is(http.StatusNoContent)
	status, _, _ = get(link)
	require.Equal(t, http.StatusNotFound, status)

	log := a.Log.String()
	require.NotContains(t, log, token)
	require.NotContains(t, log, a.Token(a.Agent))
}

func TestADeliveryMarksItsCall(t *testing.T) {
	t.Parallel()
	a := start(t)
	id, aboutLead := a.call(recording(t, 0.3)), a.call(recording(t, 0.4))
	a.ended(id)
	a.ended(aboutLead)
	before := a.Get(a.Agent, "/calls/"+id).Is(http.StatusOK)
	require.Equal(t, false, before.Object()["pabbly_sent"])
	delivered := func(callID, about string) event.Event {
		d := events.Delivery{DeliveryID: event.NewID(), EndpointID: event.NewID(), EventID: event.NewID(), EventType: about, CallID: &callID, Status: "delivered", EndedAt: time.Now()}
		return events.WebhookDelivered.New(time.Now(), d)
	}
	first, second := delivered(id, "transcription.completed"), delivered(id, "transcription.completed")
	gone := delivered(event.NewID(), "transcription.completed")
	a.Publish(delivered(aboutLead, "lead.interested"), first, first, second, gone)
	for _, e := range []event.Event{second, gone} {
		a.AwaitRow(`select exists (select from inbox where event_id = $1)`, e.ID)
	}
	after := a.Get(a.Agent, "/calls/"+id).Is(http.StatusOK)
	require.Equal(t, true, after.Object()["pabbly_sent"])
	require.NotEqual(t, before.Header.Get("ETag"), after.Header.Get("ETag"))
	a.AwaitRow(`select not pabbly_sent from calls where id = $1`, aboutLead)
	require.Len(t, a.Follow(events.CallsTopic).Events(t, id, 3), 3, "it is no event: that would be the next webhook")
}
