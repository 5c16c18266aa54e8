package call_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/store"
)

// transcribed stores an ended call with a recording and a transcript.
func (f *fixture) transcribed(t *testing.T, at time.Time, edit func(*call.Call)) string {
	t.Helper()
	c, events := fresh(at)
	c.Recording.Key = "2026/11/" + c.ID
	require.NoError(t, f.calls.Create(t.Context(), c, events...))
	_, err := f.calls.Change(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) {
		c.Status, c.Transcript = call.Completed, &call.Transcript{Text: "a discount"}
		c.Insights.Summary = new("about umbrellas")
		edit(c)
		return nil, nil
	})
	require.NoError(t, err)
	f.bucket.keys = append(f.bucket.keys, c.Recording.Key)
	return c.ID
}

func asIs(*call.Call) {}

func (f *fixture) service(r call.Retention) *call.Service {
	return &call.Service{
		Calls: f.calls, Clock: f.clock, Retention: r, Steps: store.Steps(f.db), Clients: call.Clients(store.Clients(f.db), nil), Leads: store.Leads(f.db),
		Requests: store.Requests(f.db, outbox.New(f.db, telemetry.Nop())),
	}
}

func TestOldRecordingsAndTranscriptsAreRemoved(t *testing.T) {
	t.Parallel()
	f := open(t)
	const day = 24 * time.Hour
	fresh := f.transcribed(t, noon().Add(-9*day), asIs)
	middle := f.transcribed(t, noon().Add(-11*day), asIs)
	old := f.transcribed(t, noon().Add(-31*day), asIs)
	held := f.transcribed(t, noon().Add(-31*day), func(c *call.Call) { c.LegalHold = true })
	working := f.transcribed(t, noon().Add(-31*day), func(c *call.Call) { c.Status = call.Transcribing })
	_, err := f.db.Pool().Exec(t.Context(), `insert into steps (call_id, run, step, part, input, state, epoch, requests, model, answer)
		select id, 1, 'transcribe', 0, '', 'answered', 1, 1, 'm', 'a discount' from calls`)
	require.NoError(t, err)

	require.NoError(t, f.service(call.Retention{}).Retain(t.Context()))
	require.Empty(t, f.erasures(t), "off by default")
	svc := f.service(call.Retention{Recordings: 10 * day, Transcripts: 30 * day})
	require.NoError(t, svc.Retain(t.Context()))
	require.ElementsMatch(t, []string{fresh, middle, held, working}, pgtest.Column[string](t, f.db, `select call_id::text from steps where answer is not null`))
	versions := map[string]int64{}
	for id, want := range map[string][2]bool{fresh: {true, true}, middle: {false, true}, old: {false, false}, held: {true, true}, working: {true, true}} {
		c := f.find(t, id)
		require.Equal(t, want, [2]bool{c.Recording.Key != "", c.Transcript != nil}, id)
		require.NotNil(t, c.Insights.Summary)
		versions[id] = c.Version
	}
	require.ElementsMatch(t, []string{middle, old}, f.erasures(t))
	for _, id := range []string{middle, old} {
		require.NoError(t, f.cleaner().Erase(t.Context(), id))
	}
	require.ElementsMatch(t, []string{"2026/11/" + middle, "2026/11/" + old}, f.bucket.removed)
	for text, want := range map[string]int{"discount": 4 - 1, "umbrellas": 4} { // the one that is working is not searched
		found, err := f.calls.List(t.Context(), call.Filter{ListRequest: call.ListRequest{Text: text, Sort: call.SortNewest}})
		require.NoError(t, err)
		n := len(found.Items)
		for found.Next != "" {
			next := call.ListRequest{Text: text, Sort: call.SortNewest}
			next.Cursor = found.Next
			found, err = f.calls.List(t.Context(), call.Filter{ListRequest: next})
			require.NoError(t, err)
			n += len(found.Items)
		}
		require.Equal(t, want, n, text)
	}
	require.NoError(t, svc.Retain(t.Context()))
	for id, version := range versions {
		require.Equal(t, version, f.find(t, id).Version, "nothing is left to do")
	}
	f.remove(t, middle)
	require.Empty(t, f.erasures(t))
}

// An erasure that was confirmed while calls of the person were on legal hold would never be completed.
func TestAnErasureWaitsForTheLegalHold(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{events.KindClient, events.KindLead} {
		for _, recorded := range []bool{true, false} {
			f := open(t)
			person := event.NewID()
			of := func(hold bool) func(*call.Call) {
				return func(c *call.Call) {
					c.LegalHold = hold
					if kind == events.KindClient {
						c.Details.ClientID = &person
					} else {
						c.Details.LeadID = &person
					}
				}
			}
			held, gone, other := f.transcribed(t, noon(), of(true)), f.transcribed(t, noon(), of(false)), f.transcribed(t, noon(), asIs)
			if !recorded {
				f.exec(t, `update calls set audio_key = '' where id = $1`, held)
			}
			request := events.Erasure{ErasureID: event.NewID(), Kind: kind, SubjectID: person, SubjectVersion: 2, RequestedBy: event.NewID(), RequestedAt: noon()}
			svc := f.service(call.Retention{})
			said := func() []string {
				return pgtest.Column[string](t, f.db, `select distinct type from outbox where type like 'erasure.%' order by 1`)
			}
			for range 2 { // a replay
				require.NoError(t, svc.OnErasureRequested(t.Context(), event.Received[events.Erasure]{Data: request}))
			}
			f.find(t, held)
			f.find(t, other)
			_, err := f.calls.Find(t.Context(), gone)
			require.True(t, fault.Is(err, fault.NotFound), kind)
			require.Equal(t, []string{gone}, f.erasures(t))
			require.NoError(t, f.cleaner().Erase(t.Context(), gone))
			require.NoError(t, svc.ContinueErasures(t.Context()))
			require.Equal(t, []string{"erasure.waiting"}, said())

			admin := identity.With(t.Context(), identity.Caller{AgentID: event.NewID(), Role: identity.Admin})
			_, err = svc.Hold(admin, call.HoldRequest{ID: held, Hold: false})
			require.NoError(t, err)
			require.NoError(t, svc.ContinueErasures(t.Context()))
			_, err = f.calls.Find(t.Context(), held)
			require.True(t, fault.Is(err, fault.NotFound), kind)
			if recorded {
				require.Equal(t, []string{"erasure.waiting"}, said(), "the recording is left")
				require.NoError(t, f.cleaner().Erase(t.Context(), held))
			}
			require.Equal(t, []string{"erasure.done", "erasure.waiting"}, said())
			require.Zero(t, pgtest.Column[int](t, f.db, `select count(*) from erasure_requests`)[0])
			f.find(t, other)
		}
	}
}

// Who lifts the hold may delete the call before the erasure continues.
func TestAnErasureWaitsForTheRecordingOfACallThatAPersonDeletes(t *testing.T) {
	t.Parallel()
	f, person := open(t), event.NewID()
	svc := f.service(call.Retention{})
	held := f.transcribed(t, noon(), func(c *call.Call) { c.LegalHold, c.Details.ClientID = true, &person })
	request := events.Erasure{ErasureID: event.NewID(), Kind: events.KindClient, SubjectID: person, RequestedBy: event.NewID(), RequestedAt: noon()}
	require.NoError(t, svc.OnErasureRequested(t.Context(), event.Received[events.Erasure]{Data: request}))
	f.exec(t, `update calls set legal_hold = false`)
	f.remove(t, held)
	require.NoError(t, svc.ContinueErasures(t.Context()))
	require.Equal(t, 1, pgtest.Column[int](t, f.db, `select count(*) from erasure_requests`)[0])
	require.NoError(t, f.cleaner().Erase(t.Context(), held))
	require.Contains(t, pgtest.Column[string](t, f.db, `select type from outbox`), "erasure.done")
}

// The calls of an agent belong to the team: its erasure removes nothing and is confirmed.
func TestTheErasureOfAnAgentIsConfirmed(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.transcribed(t, noon(), asIs)
	request := events.Erasure{ErasureID: event.NewID(), Kind: events.KindAgent, SubjectID: f.find(t, id).AgentID, RequestedBy: event.NewID(), RequestedAt: noon()}
	require.NoError(t, f.service(call.Retention{}).OnErasureRequested(t.Context(), event.Received[events.Erasure]{Data: request}))
	f.find(t, id)
	require.Equal(t, []string{"erasure.done"}, pgtest.Column[string](t, f.db, `select type from outbox where type like 'erasure.%'`))
}

func TestRecordingsAndCallsAreCompared(t *testing.T) {
	t.Parallel()
	f := open(t)
	earlier := noon().Add(-60 * 24 * time.Hour)
	f.transcribed(t, earlier, asIs)
	lost := f.transcribed(t, earlier, asIs)
	f.transcribed(t, noon(), asIs) // may still be on its way
	f.bucket.keys = []string{f.bucket.keys[0], "2026/09/" + event.NewID(), "2026/09/notes.txt"}
	require.NoError(t, f.cleaner().Reconcile(t.Context()))
	require.EqualValues(t, 1, f.missing.Load())
	require.Equal(t, f.bucket.keys[1:2], f.bucket.removed, "an orphan of any month")
	f.bucket.keys = append(f.bucket.keys[:1], "2026/11/"+lost)
	require.NoError(t, f.cleaner().Reconcile(t.Context()))
	require.Zero(t, f.missing.Load())
}
