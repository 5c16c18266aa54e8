package calls_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
)

// client publishes a client of the agent and waits for its copy.
func (a *app) client(agentID string) string {
	a.T.Helper()
	c := events.Client{ClientID: event.NewID(), Version: 1, AgentID: agentID, Name: "Ravi"}
	a.Publish(events.ClientCreated.New(time.Now(), c))
	a.AwaitRow(`select exists (select from clients where id = $1)`, c.ClientID)
	return c.ClientID
}

func (a *app) patch(id, body string) map[string]any {
	a.T.Helper()
	return a.Do(a.Agent, http.MethodPatch, "/calls/"+id, body).Is(http.StatusOK).Object()
}

func TestACallIsWrittenWithoutARecording(t *testing.T) {
	t.Parallel()
	a := start(t)
	client, lead := a.client(a.Agent.AgentID), a.lead(&a.Agent.AgentID, "+919876543210")
	body := `{"client_id":"` + client + `","call_tag":"connected","call_type":"demo","recorded_at":"2026-11-24T09:30:00Z","notes":" She wants a quote. ","title":"x"}`
	got := a.Do(a.Agent, http.MethodPost, "/calls", body, "Idempotency-Key", "k").Is(http.StatusCreated)
	for name, want := range map[string]any{
		"status": "completed", "outcome": "no_recording", "client_id": client, "lead_id": nil, "call_tag": "connected", "call_type": "demo", "notes": "She wants a quote.",
		"recorded_at": "2026-11-24T09:30:00Z", "audio_url": nil, "content_type": nil, "progress": 1.0, "title": nil, "attempts": 0.0, "raw_transcript": nil,
	} {
		require.Equal(t, want, got.Object()[name], name)
	}
	id := got.Text("id")
	require.Equal(t, got.Body, a.Do(a.Agent, http.MethodPost, "/calls", body, "Idempotency-Key", "k").Is(http.StatusCreated).Body)
	require.Equal(t, []string{"call.uploaded 1"}, a.Follow(events.CallsTopic).Events(t, id, 1))
	require.Equal(t, lead, a.Do(a.Agent, http.MethodPost, "/calls", `{"call_tag":"no_answer","phone":"98765 43210"}`).Is(http.StatusCreated).Text("lead_id"))

	a.Do(a.Agent, http.MethodPost, "/calls/"+id+"/retry", `{}`).Fails(http.StatusConflict, "call_without_recording")
	a.Get(a.Agent, "/calls/"+id+"/audio").Fails(http.StatusNotFound, "audio_not_found")
	require.Equal(t, []string{"call_tag"}, a.Do(a.Agent, http.MethodPost, "/calls", `{}`).Wrong())
	require.Equal(t, []string{"notes"}, a.Do(a.Agent, http.MethodPost, "/calls", `{"call_tag":"connected","notes":"`+strings.Repeat("x", 10_001)+`"}`).Wrong())
	a.Do(a.Other, http.MethodPost, "/calls", `{"call_tag":"connected","client_id":"`+client+`"}`).Fails(http.StatusForbidden, "client_forbidden")
	a.Do(a.Agent, http.MethodPost, "/calls", `{"call_tag":"connected","lead_id":"`+event.NewID()+`"}`).Fails(http.StatusNotFound, "lead_not_found")
}

func TestWhatPeopleSayAboutACallIsChanged(t *testing.T) {
	t.Parallel()
	a := start(t)
	client, lead := a.client(a.Agent.AgentID), a.lead(&a.Agent.AgentID, "+919876543210")
	id := a.call(recording(t, 2))
	require.Equal(t, "Yearly plan", a.ended(id)["title"])
	last := len(a.Follow(events.CallsTopic).Events(t, id, 3))

	got := a.patch(id, `{"client_id":"`+client+`","lead_id":"`+lead+`","title":" Talk with Ravi ","notes":"Call again"}`)
	for name, want := range map[string]any{"client_id": client, "lead_id": lead, "title": "Talk with Ravi", "notes": "Call again"} {
		require.Equal(t, want, got[name], name)
	}
	a.patch(id, `{"title":"Talk with Ravi"}`)
	published := a.Follow(events.CallsTopic).Events(t, id, last+1)
	require.Len(t, published, last+1, "a change that changes nothing publishes nothing")
	require.True(t, strings.HasPrefix(published[last], events.CallUpdated.Name), published)
	require.Equal(t, []string{id}, a.Get(a.Agent, "/calls?q=ravi").IDs(), "the title is searched")

	a.Do(a.Agent, http.MethodPost, "/calls/"+id+"/retry", `{}`).Is(http.StatusAccepted)
	require.Equal(t, "Talk with Ravi", a.ended(id)["title"], "it survives another run")
	require.Equal(t, "Yearly plan", a.patch(id, `{"title":null}`)["title"])

	link := func(body string) map[string]any {
		return a.Do(a.Agent, http.MethodPatch, "/calls/"+id+"/lead", body).Is(http.StatusOK).Object()
	}
	got = link(`{"lead_id":null}`)
	require.Equal(t, []any{nil, client}, []any{got["lead_id"], got["client_id"]})
	require.Equal(t, lead, link(`{"lead_id":"` + lead + `"}`)["lead_id"])

	require.Equal(t, []string{"lead_id"}, a.Do(a.Agent, http.MethodPatch, "/calls/"+id+"/lead", `{}`).Wrong())
	a.Do(a.Agent, http.MethodPatch, "/calls/"+id, `{}`).Fails(http.StatusUnprocessableEntity, "validation_error")
	a.Do(a.Other, http.MethodPatch, "/calls/"+id, `{"title":"mine"}`).Fails(http.StatusForbidden, "call_forbidden")
	a.Do(a.Agent, http.MethodPatch, "/calls/"+event.NewID(), `{"title":"mine"}`).Fails(http.StatusNotFound, "call_not_found")
	others := a.lead(&a.Other.AgentID, "+919876543211")
	a.Do(a.Agent, http.MethodPatch, "/calls/"+id+"/lead", `{"lead_id":"`+others+`"}`).Fails(http.StatusForbidden, "lead_forbidden")
	a.Do(a.Agent, http.MethodPatch, "/calls/"+id, `{"client_id":"`+event.NewID()+`"}`).Fails(http.StatusNotFound, "client_not_found")
}

// A client that its events have not named yet is fetched from crm, as for an upload.
func TestACallIsLinkedWithANewClient(t *testing.T) {
	t.Parallel()
	a := start(t)
	id, client := a.call(recording(t, 0.3)), event.NewID()
	a.crm.clients.Store(client, a.Agent.AgentID)
	require.Equal(t, client, a.patch(id, `{"client_id":"`+client+`"}`)["client_id"])
}
