package calls_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls"
)

// sent is one server-sent event.
type sent struct {
	id, name string
	data     struct {
		ID, Status string
		Version    int
		Progress   float64
		Deleted    bool
	}
}

// follow opens a stream. The channel is closed at its end.
func (a *app) follow(as identity.Caller, url, path, last string) <-chan sent {
	a.T.Helper()
	req, err := http.NewRequestWithContext(a.T.Context(), http.MethodGet, url+path, nil)
	require.NoError(a.T, err)
	req.Header.Set("Authorization", "Bearer "+a.Token(as))
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(a.T, err)
	require.Equal(a.T, http.StatusOK, res.StatusCode)
	require.Equal(a.T, "text/event-stream", res.Header.Get("Content-Type"))
	messages := make(chan sent, 100)
	go func() {
		defer close(messages)
		defer func() { _ = res.Body.Close() }()
		var m sent
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "id":
				m.id = value
			case "event":
				m.name = value
			case "data":
				_ = json.Unmarshal([]byte(value), &m.data)
			case "":
				if m.name != "" {
					messages <- m
				}
				m = sent{}
			}
		}
	}()
	return messages
}

// next returns the next event of a stream; ok is false at its end.
func (a *app) next(messages <-chan sent) (m sent, ok bool) {
	a.T.Helper()
	select {
	case m, ok = <-messages:
		return m, ok
	case <-time.After(time.Minute):
		require.Fail(a.T, "no event")
		return m, false
	}
}

// until returns the events of a stream up to the one that is wanted.
func (a *app) until(messages <-chan sent, wanted func(sent) bool) (all []sent) {
	a.T.Helper()
	for {
		m, ok := a.next(messages)
		require.True(a.T, ok, "the stream ended: %v", all)
		all = append(all, m)
		if wanted(m) {
			return all
		}
	}
}

func hasStatus(status string) func(sent) bool {
	return func(m sent) bool { return m.data.Status == status }
}

func TestAStreamShowsEachChangeOfACall(t *testing.T) {
	t.Parallel()
	a := start(t)
	all, others := a.follow(a.Agent, a.URL, "/events", ""), a.follow(a.Other, a.URL, "/events", "")
	for _, stream := range []<-chan sent{all, others} {
		m, _ := a.next(stream)
		require.Equal(t, "reset", m.name)
	}
	id := a.call(recording(t, 3))
	seen := a.until(all, hasStatus("completed"))
	version := 0
	for _, m := range seen {
		require.Equal(t, "call", m.name)
		require.Equal(t, id, m.data.ID)
		require.NotEmpty(t, m.id)
		require.Equal(t, version+1, m.data.Version, "each change, in order")
		version = m.data.Version
	}
	require.Equal(t, "pending", seen[0].data.Status)

	one := a.follow(a.Agent, a.URL, "/calls/"+id+"/events", "")
	m, _ := a.next(one)
	require.Equal(t, "completed", m.data.Status, "how it is when the stream begins")
	require.Equal(t, version, m.data.Version)
	a.Do(a.Agent, http.MethodDelete, "/calls/"+id, "").Is(http.StatusNoContent)
	m, _ = a.next(one)
	require.Equal(t, "deleted", m.name)
	_, ok := a.next(one)
	require.False(t, ok, "nothing comes after the end of a call")
	m, _ = a.next(all)
	require.True(t, m.data.Deleted)
	require.Empty(t, others, "of another agent's calls")

	a.Get(a.Agent, "/calls/"+id+"/events").Fails(http.StatusNotFound, "call_not_found")
	other := a.upload(a.Other, recording(t, 2), nil).Is(http.StatusAccepted).Text("id")
	a.Get(a.Agent, "/calls/"+other+"/events").Fails(http.StatusForbidden, "call_forbidden")
}

// A client that reconnects, to the restarted service or to another replica, gets what it has missed, once.
func TestAStreamIsResumed(t *testing.T) {
	t.Parallel()
	a := start(t, alone)
	stream := a.follow(a.Agent, a.URL, "/events", "")
	first := a.call(recording(t, 2))
	seen := a.until(stream, hasStatus("completed"))
	a.Stop()
	_, ok := a.next(stream)
	require.False(t, ok, "a service that stops ends its streams")
	a.start()
	second := a.call(recording(t, 2))
	a.ended(second)
	a.Do(a.Agent, http.MethodDelete, "/calls/"+first, "").Is(http.StatusNoContent)
	replica := a.Replica(func(ctx context.Context, tel telemetry.Set) (*service.App, error) { return calls.New(ctx, a.cfg, tel) })

	for _, url := range []string{a.URL, replica.URL} {
		resumed := a.until(a.follow(a.Agent, url, "/events", seen[len(seen)-1].id), func(m sent) bool { return m.data.Deleted })
		require.Equal(t, second, resumed[0].data.ID)
		require.Equal(t, 1, resumed[0].data.Version)
		require.Equal(t, first, resumed[len(resumed)-1].data.ID)
		one := a.until(a.follow(a.Agent, url, "/calls/"+second+"/events", resumed[0].id), hasStatus("completed"))
		require.Equal(t, 2, one[0].data.Version)
	}
	for _, unknown := range []string{"0-0", "what", "999999999-1"} {
		m, _ := a.next(a.follow(a.Agent, a.URL, "/events", unknown))
		require.Equal(t, "reset", m.name, unknown)
		m, _ = a.next(a.follow(a.Agent, a.URL, "/calls/"+second+"/events", unknown))
		require.Equal(t, "completed", m.data.Status, unknown)
	}
}

func TestAStreamEndsWithTheSession(t *testing.T) {
	t.Parallel()
	a := start(t)
	stream := a.follow(a.Agent, a.URL, "/events", "")
	m, _ := a.next(stream)
	require.Equal(t, "reset", m.name)
	a.Publish(events.SessionRevoked.New(a.now(), events.SessionEnd{SessionID: a.Agent.SessionID, AgentID: a.Agent.AgentID}))
	_, ok := a.next(stream)
	require.False(t, ok)
}

func TestTranscriptsAndWaveforms(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.call(recording(t, 3))
	path := "/calls/" + id
	a.ended(id)
	require.Equal(t, transcript, a.Get(a.Agent, path+"/transcript").Is(http.StatusOK).Text("text"))
	srt := a.Get(a.Agent, path+"/transcript?format=srt").Is(http.StatusOK)
	require.Equal(t, "1\n00:00:00,500 --> 00:00:02,500\n"+transcript+"\n\n", srt.Body)
	require.Equal(t, "application/x-subrip; charset=utf-8", srt.Header.Get("Content-Type"))
	require.Equal(t, `attachment; filename=call.srt`, srt.Header.Get("Content-Disposition"))
	require.Equal(t, []string{"format"}, a.Get(a.Agent, path+"/transcript?format=pdf").Wrong())

	require.InDelta(t, 10, a.Get(a.Agent, path+"/waveform").Is(http.StatusOK).Object()["peaks_per_second"], 0)
	_, err := a.DB.Pool().Exec(t.Context(), `update waveforms set peak_ms = 20000, peaks_per_second = 1`)
	require.NoError(t, err)
	require.InDelta(t, 0.05, a.Get(a.Agent, path+"/waveform").Is(http.StatusOK).Object()["peaks_per_second"], 0, "of a long recording")
	_, err = a.DB.Pool().Exec(t.Context(), `delete from waveforms where call_id = $1`, id)
	require.NoError(t, err)
	a.Get(a.Agent, path+"/waveform").Fails(http.StatusNotFound, "waveform_not_found")
	_, err = a.DB.Pool().Exec(t.Context(), `insert into waveforms (call_id, channels, peaks_per_second, peaks) values ($1, 1, 10, '[0, 12, 80]')`, id)
	require.NoError(t, err)
	require.JSONEq(t, `{"channels": 1, "peaks_per_second": 10, "peaks": [0, 12, 80]}`, a.Get(a.Agent, path+"/waveform").Is(http.StatusOK).Body)
	for _, below := range []string{"/transcript", "/waveform"} {
		a.Get(a.Other, path+below).Fails(http.StatusForbidden, "call_forbidden")
		a.Get(a.Agent, "/calls/"+event.NewID()+below).Fails(http.StatusNotFound, "call_not_found")
	}
	tooShort := a.call(recording(t, 0.3))
	a.ended(tooShort)
	a.Get(a.Agent, "/calls/"+tooShort+"/transcript").Fails(http.StatusNotFound, "transcript_not_found")
}

func TestNothingOfACallOnLegalHoldIsRemoved(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.call(recording(t, 2))
	a.ended(id)
	path := "/calls/" + id
	a.Do(a.Agent, http.MethodPut, path+"/legal-hold", `{"legal_hold": true}`).Fails(http.StatusForbidden, "admin_only")
	require.Equal(t, true, a.Do(a.Admin, http.MethodPut, path+"/legal-hold", `{"legal_hold": true}`).Is(http.StatusOK).Object()["legal_hold"])
	for _, as := range []identity.Caller{a.Agent, a.Admin} {
		a.Do(as, http.MethodDelete, path, "").Fails(http.StatusConflict, "call_on_hold")
		a.Do(as, http.MethodPost, path+"/retry", `{"language":"de"}`).Fails(http.StatusConflict, "call_on_hold")
	}
	held := a.Get(a.Agent, path).Is(http.StatusOK).Object()
	require.Equal(t, []any{true, transcript}, []any{held["legal_hold"], held["raw_transcript"]})
	a.Do(a.Admin, http.MethodPut, path+"/legal-hold", `{"legal_hold": false}`).Is(http.StatusOK)
	a.Do(a.Agent, http.MethodDelete, path, "").Is(http.StatusNoContent)
}

func TestSearchOverTheAPI(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.call(recording(t, 2))
	a.ended(id)
	found := a.Get(a.Agent, "/calls?q=yearly+plans").Is(http.StatusOK)
	require.Equal(t, []string{id}, found.IDs())
	require.Contains(t, found.Body, `{"field":"transcript","snippet":"would like the \u003cmark\u003eyearly\u003c/mark\u003e \u003cmark\u003eplan\u003c/mark\u003e, but the price is too high"}`)
	require.NotContains(t, a.Get(a.Agent, "/calls").Body, "highlights")
	for query, want := range map[string][]string{
		"agent_id=" + a.Agent.AgentID: {id}, "agent_id=" + a.Other.AgentID: {}, "call_type=default": {id}, "call_type=demo": {}, "outcome=ok": {id}, "outcome=partial": {},
		"q=yearly&sort=newest": {id}, "q=bicycle": {},
	} {
		require.Equal(t, want, a.Get(a.Agent, "/calls?"+query).Is(http.StatusOK).IDs(), query)
		require.Equal(t, want, a.Get(a.Admin, "/calls?"+query).Is(http.StatusOK).IDs(), query)
	}
	require.Empty(t, a.Get(a.Other, "/calls?agent_id="+a.Agent.AgentID).Is(http.StatusOK).IDs())
	require.Equal(t, []string{"sort"}, a.Get(a.Agent, "/calls?sort=best").Wrong())
}
