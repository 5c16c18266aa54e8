package delivery_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

func TestAPayloadWaitsForTheCopiesOfWhoItNames(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	clientID := event.NewID()
	id := r.deliver(&clientID)
	d := r.attempt(id)
	require.Equal(t, delivery.Pending, d.Status)
	r.waits(id, time.Second)
	require.Nil(t, d.Body)
	require.Empty(t, r.receiver.got)

	name := "Meera Nair"
	require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: clientID, Version: 1, Name: name}}))
	r.answers(status(http.StatusBadGateway))
	r.attempt(id)
	require.Equal(t, name, r.sent(0)["client_name"])

	require.NoError(t, r.OnClientDeleted(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: clientID, Version: 3}}))
	require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: clientID, Version: 2, Name: name}}))
	require.Equal(t, []*string{nil}, query[*string](r, `select name from clients`), "erased, and an older event does not bring it back")
	r.attempt(id)
	require.Equal(t, r.receiver.got[0], r.receiver.got[1], "what was sent once is sent again")

	before := len(query[string](r, `select id::text from deliveries`))
	require.NoError(t, r.OnTranscriptionCompleted(t.Context(), about(clientID)))
	require.Len(t, query[string](r, `select id::text from deliveries`), before, "nothing is sent about an erased client")
}

// about returns a completed call of a client.
func about(clientID string) event.Received[events.Call] {
	call := events.Call{CallID: event.NewID(), Version: 1, AgentID: event.NewID(), ClientID: &clientID}
	return event.Received[events.Call]{Event: events.TranscriptionCompleted.New(time.Now(), call), Data: call}
}

func TestAMergedClientIsTheOther(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	loser, winner := event.NewID(), event.NewID()
	require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: winner, Version: 1, Name: "Meera Nair"}}))
	require.NoError(t, r.OnClientDeleted(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: loser, Version: 2, MergedInto: &winner}}))
	r.attempt(r.deliver(&loser))
	require.Equal(t, "Meera Nair", r.sent(0)["client_name"])
	require.Equal(t, winner, r.sent(0)["client_id"])
}

func TestAPayloadWaitsThirtySecondsAtMost(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.seed("https://pabbly.example/hook", "s3cret")
	clientID := event.NewID()
	id := r.deliver(&clientID)
	r.clock.Advance(29 * time.Second)
	require.Equal(t, delivery.Pending, r.attempt(id).Status)
	r.clock.Advance(time.Second)
	require.Equal(t, delivery.Delivered, r.attempt(id).Status)
	require.Nil(t, r.sent(0)["client_name"])
	require.Equal(t, clientID, r.sent(0)["client_id"])
	require.Equal(t, "Asha Rao", r.sent(0)["agent_name"])
}

// The loser of a merge is the same person as the winner. The events of both are on different topics, so the erasure may be first.
func TestAnErasureReachesMergedClients(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		r := start(t)
		r.seed("https://pabbly.example/hook", "s3cret")
		first, loser, winner, other := event.NewID(), event.NewID(), event.NewID(), event.NewID()
		for _, id := range []string{first, loser, winner, other} {
			require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: id, Version: 1, Name: "Canary Featherstonehaugh"}}))
			r.attempt(r.deliver(&id))
		}
		r.answers(status(http.StatusBadGateway))
		open := r.deliver(&first)
		r.attempt(open)
		merge := func(from, into string) {
			require.NoError(t, r.OnClientDeleted(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: from, Version: 2, MergedInto: &into}}))
		}
		merge(first, loser)
		if !late {
			merge(loser, winner)
		}
		request := events.Erasure{ErasureID: event.NewID(), Kind: events.KindClient, SubjectID: winner, SubjectVersion: 9, RequestedBy: event.NewID(), RequestedAt: time.Now()}
		require.NoError(t, r.OnErasureRequested(t.Context(), event.Received[events.Erasure]{Data: request}))
		if late {
			require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: winner, Version: 2, Name: "from before"}}))
			merge(loser, winner)
		}
		require.Equal(t, []string{other}, query[string](r, `select client_id::text from deliveries where body is not null or data <> '{}'`))
		require.Equal(t, []string{other}, query[string](r, `select d.client_id::text from attempts a join deliveries d on d.id = a.delivery_id where a.answer <> ''`))
		require.Equal(t, "dead erased", r.shown(open))
		require.NoError(t, r.OnTranscriptionCompleted(t.Context(), about(loser)))
		require.Len(t, query[string](r, `select id::text from deliveries`), 5, "nothing is sent about it any more")
	}
}

func TestErasureBlanksWhatWasSentAndEndsWhatWasNot(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{events.KindClient, events.KindLead, events.KindAgent} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			r.seed("https://pabbly.example/hook", "s3cret")
			clientID, leadID := event.NewID(), event.NewID()
			name := "Canary Featherstonehaugh"
			require.NoError(t, r.OnClientChanged(t.Context(), event.Received[events.Client]{Data: events.Client{ClientID: clientID, Version: 1, Name: name}}))
			imported, err := events.LeadImported.Decode(events.LeadImported.New(r.clock.Now(), events.Lead{LeadID: leadID, Version: 1, ClientID: &clientID, Name: name, Phone: new("+919812345670")}))
			require.NoError(t, err)
			require.NoError(t, r.OnLeadChanged(t.Context(), imported))
			ofLead := func(c *events.Call) { c.LeadID = &leadID }
			sent := r.deliver(&clientID, ofLead)
			r.attempt(sent)
			r.answers(status(http.StatusBadGateway))
			open := r.deliver(&clientID, ofLead)
			r.attempt(open)
			subject := map[string]string{events.KindClient: clientID, events.KindLead: leadID, events.KindAgent: agentID}[kind]
			seen := r.find(sent).Version()
			request := events.Erasure{ErasureID: event.NewID(), Kind: kind, SubjectID: subject, SubjectVersion: 9, RequestedBy: event.NewID(), RequestedAt: time.Now()}
			for range 2 { // also when it is delivered again
				require.NoError(t, r.OnErasureRequested(t.Context(), event.Received[events.Erasure]{Data: request}))
			}
			require.Greater(t, r.find(sent).Version(), seen, "a new ETag: no client gets 304")
			left := map[string][]string{events.KindClient: {"lead.imported"}, events.KindAgent: {"lead.imported"}}[kind] // of nobody erased
			require.ElementsMatch(t, left, query[string](r, `select event from deliveries where body is not null`))
			require.ElementsMatch(t, left, query[string](r, `select d.event from attempts a join deliveries d on d.id = a.delivery_id where a.answer <> ''`))
			require.Equal(t, []string{"erasure.done", "erasure.done"}, query[string](r, `select type from outbox where type = 'erasure.done'`))
			d := r.attempt(open)
			if kind == events.KindAgent {
				require.Equal(t, delivery.Retrying, d.Status, "the client's events are delivered")
				return
			}
			require.Equal(t, delivery.Dead, d.Status)
			require.Equal(t, "erased", *d.Reason)
			copied := kind + "s"
			require.ElementsMatch(t, left, query[string](r, `select event from deliveries where data <> '{}'`))
			require.Equal(t, []*string{nil}, query[*string](r, `select name from `+copied))
			require.Equal(t, []*string{nil}, query[*string](r, `select phone from `+copied))

			// What was published before the erasure may arrive later.
			before := query[int](r, `select count(*)::int from deliveries`)
			require.NoError(t, r.OnTranscriptionCompleted(t.Context(), r.event(&clientID, ofLead)))
			imported.ID = event.NewID()
			require.NoError(t, r.OnLeadChanged(t.Context(), imported))
			if kind == events.KindClient {
				before[0]++ // the lead that was converted to it is not erased
			}
			require.Equal(t, before, query[int](r, `select count(*)::int from deliveries`))
			require.Equal(t, []*string{nil}, query[*string](r, `select name from `+copied))
		})
	}
}
