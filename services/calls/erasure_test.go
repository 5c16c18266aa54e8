package calls_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

// clientOf publishes a client of the agent, and waits for its copy.
func (a *app) clientOf() string {
	a.T.Helper()
	id := event.NewID()
	a.Publish(events.ClientCreated.New(a.now(), events.Client{ClientID: id, Version: 1, AgentID: a.Agent.AgentID, Name: "Priya"}))
	a.AwaitRow(`select exists (select from clients where id = $1)`, id)
	return id
}

func TestErasureOfAClient(t *testing.T) {
	t.Parallel()
	a := start(t)
	client, other := a.clientOf(), a.clientOf()
	var erased []string
	for range 3 {
		erased = append(erased, a.upload(a.Agent, recording(t, 3), map[string]string{"client_id": client}, "Idempotency-Key", event.NewID()).Is(http.StatusAccepted).Text("id"))
	}
	remains := a.upload(a.Agent, recording(t, 3), map[string]string{"client_id": other}).Is(http.StatusAccepted).Text("id")
	for _, id := range append(erased, remains) {
		a.ended(id)
	}
	request := events.Erasure{ErasureID: event.NewID(), Kind: events.KindClient, SubjectID: client, SubjectVersion: 2, RequestedBy: a.Agent.AgentID, RequestedAt: a.now()}
	a.Publish(events.ErasureRequested.New(a.now(), request))
	confirmations := func(n int) {
		t.Helper()
		confirmed := 0
		for _, m := range a.Follow(events.ErasuresTopic).Of(t, request.ErasureID, 2*n) { // each with its request
			got, err := events.ErasureDone.Decode(event.Event{Data: m.Value})
			require.NoError(t, err)
			if got.Data.Service == "calls" {
				confirmed++
			}
		}
		require.Equal(t, n, confirmed)
	}
	confirmations(1)
	require.Len(t, a.files(), 1, "when it is confirmed, the recordings are gone")
	for _, id := range erased {
		a.Do(a.Agent, "GET", "/calls/"+id, "").Fails(404, "call_not_found")
	}
	a.Do(a.Agent, "GET", "/calls/"+remains, "").Is(200)
	for table, want := range map[string]int{"erasures": 0, "erasure_requests": 0, "transcripts": 1, "idempotency": 0} {
		require.Equal(t, []int{want}, pgtest.Column[int](t, a.DB, `select count(*)::int from `+table), table)
	}
	a.upload(a.Agent, recording(t, 3), map[string]string{"client_id": client}).Fails(404, "client_not_found")

	a.Publish(events.ClientUpdated.New(a.now(), events.Client{ClientID: client, Version: 1, AgentID: a.Agent.AgentID, Name: "Priya"})) // late
	a.Publish(events.ErasureRequested.New(a.now(), request))                                                                           // a replay
	confirmations(2)
	a.upload(a.Agent, recording(t, 3), map[string]string{"client_id": client}).Fails(404, "client_not_found")
}

func TestErasureOfALead(t *testing.T) {
	t.Parallel()
	a := start(t)
	lead, other := a.lead(&a.Agent.AgentID, "+919876543210"), a.lead(&a.Agent.AgentID, "+919876543211")
	erased := a.upload(a.Agent, recording(t, 3), map[string]string{"lead_id": lead}).Is(http.StatusAccepted).Text("id")
	remains := a.upload(a.Agent, recording(t, 3), map[string]string{"lead_id": other}).Is(http.StatusAccepted).Text("id")
	a.ended(erased)
	a.ended(remains)
	request := events.Erasure{ErasureID: event.NewID(), Kind: events.KindLead, SubjectID: lead, SubjectVersion: 4, RequestedBy: a.Agent.AgentID, RequestedAt: a.now()}
	a.Publish(events.ErasureRequested.New(a.now(), request))
	a.Await("the call is gone", func() bool { return a.Do(a.Agent, "GET", "/calls/"+erased, "").Status == http.StatusNotFound })
	a.AwaitRow(`select not exists (select from erasure_requests)`)
	a.Do(a.Agent, "GET", "/calls/"+remains, "").Is(200)
	require.Len(t, a.files(), 1)
	require.Equal(t, []*string{nil}, pgtest.Column[*string](t, a.DB, `select phone from leads where deleted`))

	// What was published before the erasure may arrive later.
	attempt := events.LeadNoAnswer.New(a.now(), events.Lead{LeadID: lead, Version: 3, AssignedAgentID: &a.Agent.AgentID, Phone: new("+919876543210"), AttemptID: new(event.NewID())})
	a.Publish(attempt)
	a.AwaitRow(`select exists (select from inbox where event_id = $1)`, attempt.ID)
	require.Equal(t, []string{remains}, a.Get(a.Agent, "/calls").Is(200).IDs())
	a.upload(a.Agent, recording(t, 3), map[string]string{"lead_id": lead}).Fails(404, "lead_not_found")
}

func TestCallsFollowAMergedClient(t *testing.T) {
	t.Parallel()
	a := start(t)
	loser, winner := a.clientOf(), a.clientOf()
	id := a.upload(a.Agent, recording(t, 3), map[string]string{"client_id": loser}).Is(http.StatusAccepted).Text("id")
	a.ended(id)
	a.Publish(events.ClientDeleted.New(a.now(), events.Client{ClientID: loser, Version: 2, AgentID: a.Agent.AgentID, MergedInto: &winner}))
	a.Await("the call belongs to the other client", func() bool {
		return a.Do(a.Agent, "GET", "/calls/"+id, "").Is(200).Text("client_id") == winner
	})
	changes := a.Follow(events.CallsTopic).Events(t, id, 4)
	require.Contains(t, changes[len(changes)-1], "call.updated")
	require.Equal(t, winner, a.upload(a.Agent, recording(t, 3), map[string]string{"client_id": loser}).Is(http.StatusAccepted).Text("client_id"), "an app that does not know yet")
}

// TestCallsFollowMergesInAnyOrder: clients have partitions of their own, so that a merge may arrive after what became of its winner.
func TestCallsFollowMergesInAnyOrder(t *testing.T) {
	t.Parallel()
	a := start(t)
	first, second, last, erased := a.clientOf(), a.clientOf(), a.clientOf(), a.clientOf()
	merge := func(from, into string) {
		t.Helper()
		a.Publish(events.ClientDeleted.New(a.now(), events.Client{ClientID: from, Version: 2, AgentID: a.Agent.AgentID, MergedInto: &into}))
		a.AwaitRow(`select deleted from clients where id = $1`, from)
	}
	upload := func(client string) string {
		t.Helper()
		id := a.upload(a.Agent, recording(t, 3), map[string]string{"client_id": client}).Is(http.StatusAccepted).Text("id")
		a.ended(id)
		return id
	}
	moved, gone := upload(first), upload(last)
	merge(second, erased)
	merge(first, second)
	require.Equal(t, erased, a.Do(a.Agent, "GET", "/calls/"+moved, "").Is(200).Text("client_id"))

	request := events.Erasure{ErasureID: event.NewID(), Kind: events.KindClient, SubjectID: erased, SubjectVersion: 2, RequestedBy: a.Agent.AgentID, RequestedAt: a.now()}
	a.Publish(events.ErasureRequested.New(a.now(), request))
	a.AwaitRow(`select deleted from clients where id = $1`, erased)
	a.Await("the erasure takes what was merged", func() bool { return a.Do(a.Agent, "GET", "/calls/"+moved, "").Status == http.StatusNotFound })
	merge(last, second)
	a.Await("nothing is moved to an erased client", func() bool { return a.Do(a.Agent, "GET", "/calls/"+gone, "").Status == http.StatusNotFound })
}
