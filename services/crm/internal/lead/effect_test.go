package lead

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/convoflow/convoflow/api/events"
)

func at(minute int) time.Time { return time.Date(2026, 11, 24, 9, minute, 0, 0, time.UTC) }

func newLead() Lead {
	l, _ := Create(Fields{Name: "Priya"}, new("+919876543210"), nil, nil, at(0))
	return l
}

// call is a completed call that took place at that minute.
func call(id string, version int64, minute int, intent Intent) events.Call {
	c := events.Call{CallID: id, Version: version, Status: "completed", RecordedAt: new(at(minute)), CreatedAt: at(minute + 1), Summary: new("Summary of " + id)}
	if intent != "" {
		c.IntentCategory = new(string(intent))
	}
	return c
}

func TestACallMovesItsLead(t *testing.T) {
	t.Parallel()
	for intent, want := range map[Intent]Status{
		Interested: Qualified, PaymentPending: Qualified, CallbackRequested: InProgress, Undecided: InProgress, NotInterested: Lost, WrongNumber: Lost,
		FuturePlanning: Deferred, NoAnswer: Contacted, IntentConverted: Converted,
	} {
		l, c := newLead(), call("c", 3, 10, intent)
		c.IntentConfidence, c.InterestLevel, c.Objections, c.CallbackTime = new(0.7), new("high"), []string{"too dear", "no time"}, new(at(50))
		published := l.applyCall(c, at(12))
		require.Len(t, published, 1)
		require.Equal(t, "lead."+string(intent), published[0].Type)
		var state events.Lead
		require.NoError(t, json.Unmarshal(published[0].Data, &state))
		require.Equal(t, "c", *state.CallID)
		require.Nil(t, state.AttemptID, "the call was recorded already")
		require.Equal(t, want, l.Status, intent)
		require.Equal(t, "Call c: "+string(intent), *l.StatusReason)
		require.Equal(t, []any{0.7, "high", "too dear; no time", at(50), at(10), "Summary of c"},
			[]any{*l.IntentConfidence, *l.InterestLevel, *l.Objections, *l.CallbackScheduledAt, *l.LastContactedAt, *l.ConversationSummary})
		require.Empty(t, l.applyCall(c, at(13)), "the same event again")

		titled := c
		titled.Version++
		require.Empty(t, l.applyCall(titled, at(14)), "what the automations know already is not fired again")
	}
	l := newLead()
	for _, none := range []Intent{"", "new", "nonsense"} {
		l.applyCall(call("c"+string(none), 1, 10, none), at(12))
		require.Equal(t, New, l.Status)
	}
}

func TestTheTagOfACallWithoutAnIntentMovesItsLead(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]struct {
		intent Intent
		status Status
	}{"no_answer": {NoAnswer, Contacted}, "wrong_number": {WrongNumber, Lost}} {
		l, c := newLead(), call("c", 1, 10, "")
		c.Summary, c.CallTag = nil, &tag
		published := l.applyCall(c, at(12))
		require.Len(t, published, 1)
		require.Equal(t, []any{"lead." + tag, want.intent, want.status, "Call c: " + tag}, []any{published[0].Type, l.IntentCategory, l.Status, *l.StatusReason})
		require.Empty(t, l.applyCall(c, at(13)), "the same event again")
		found := call("c", 2, 10, Interested)
		found.CallTag = &tag
		l.applyCall(found, at(14))
		require.Equal(t, Interested, l.IntentCategory, "what was said counts more")
	}
	l, connected := newLead(), call("c", 1, 10, "")
	connected.Summary, connected.CallTag = nil, new("connected")
	l.applyCall(connected, at(12))
	require.Equal(t, New, l.Status)

	reported := newLead()
	var attempt events.Lead
	require.NoError(t, json.Unmarshal(reported.noAnswer("attempt", at(20))[0].Data, &attempt))
	written := events.Call{CallID: *attempt.AttemptID, Version: 1, Status: completed, CallTag: new("no_answer"), RecordedAt: new(at(20)), CreatedAt: at(20)}
	require.Empty(t, reported.applyCall(written, at(21)), "the attempt that the agent reported is known")
}

// TestACallReplacesWhatAnEarlierOneFound: otherwise the lead would depend on which call is read first.
func TestACallReplacesWhatAnEarlierOneFound(t *testing.T) {
	t.Parallel()
	first := call("first", 1, 10, CallbackRequested)
	first.IntentConfidence, first.InterestLevel, first.Objections, first.CallbackTime = new(0.7), new("high"), []string{"too dear"}, new(at(20).Add(time.Nanosecond))
	second := call("second", 1, 20, Interested)
	inOrder, reversed := newLead(), newLead()
	inOrder.applyCall(first, at(12))
	require.Equal(t, "too dear", *inOrder.Objections)
	inOrder.applyCall(second, at(22))
	reversed.applyCall(second, at(22))
	reversed.applyCall(first, at(23))
	for _, l := range []Lead{inOrder, reversed} {
		require.Equal(t, []any{(*float64)(nil), (*string)(nil), (*string)(nil), (*time.Time)(nil)}, []any{l.IntentConfidence, l.InterestLevel, l.Objections, l.CallbackScheduledAt})
	}

	edited := newLead()
	edited.applyCall(first, at(12))
	edited.Objections, edited.CallbackScheduledAt = new("her husband decides"), new(at(40))
	edited.applyCall(second, at(22))
	require.Equal(t, "her husband decides", *edited.Objections, "a person has written it")
	require.Equal(t, at(40), *edited.CallbackScheduledAt)
	require.Nil(t, edited.InterestLevel)
}

func TestWhatAPersonDecidedLaterStays(t *testing.T) {
	t.Parallel()
	l := newLead()
	l.Status = Lost
	l.decide(at(20))
	published := l.applyCall(call("early", 1, 10, Interested), at(30))
	require.Equal(t, Lost, l.Status, "recorded before, transcribed after")
	require.Equal(t, "lead.updated", published[0].Type, "the summary is news")
	l.applyCall(call("late", 1, 25, Interested), at(31))
	require.Equal(t, Qualified, l.Status)
	require.NotNil(t, l.StatusReason)
	future := call("future", 1, 59, NotInterested)
	future.CreatedAt = at(15)
	l.applyCall(future, at(32))
	require.Equal(t, Qualified, l.Status, "a phone whose clock is wrong: it was uploaded earlier")
}

// TestEffectsDoNotDependOnTheOrderOfCalls delivers the versions of some calls in any order among the calls, some twice, with
// decisions of a person between them, and compares the lead with the rule: the newest call or decision has the last word.
func TestEffectsDoNotDependOnTheOrderOfCalls(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var calls [][]events.Call
		for i := range rapid.IntRange(1, 4).Draw(t, "calls") {
			minute := rapid.IntRange(1, 40).Draw(t, "minute")
			var versions []events.Call
			for v := range rapid.IntRange(1, 3).Draw(t, "versions") {
				versions = append(versions, call(fmt.Sprint("call", i), int64(v+1), minute, rapid.SampledFrom(Intents()[1:]).Draw(t, "intent")))
			}
			calls = append(calls, versions)
		}
		l := newLead()
		decided, decision := time.Time{}, New
		// The final state of a call without a decision is that of its last version. A decision happens at some minute, and then it
		// holds against all calls that took place until then.
		minute := 0
		next := make([]int, len(calls))
		for range 40 {
			switch i := rapid.IntRange(-1, len(calls)-1).Draw(t, "what"); {
			case i < 0:
				minute = rapid.IntRange(minute, 45).Draw(t, "decided")
				l.Status = rapid.SampledFrom(Statuses()).Draw(t, "status")
				l.decide(at(minute))
				decided, decision = at(minute), l.Status
			case next[i] < len(calls[i]):
				before, version := l, l.Version
				published := l.applyCall(calls[i][next[i]], at(minute))
				require.Equal(t, version+int64(len(published)), l.Version, "an event for each version")
				if len(published) > 0 && strings.TrimPrefix(published[0].Type, "lead.") != "updated" {
					require.Equal(t, "lead."+string(l.IntentCategory), published[0].Type)
				}
				require.Equal(t, before.DecidedAt, l.DecidedAt)
				next[i]++
			default: // a duplicate of any version
				again := calls[i][rapid.IntRange(0, len(calls[i])-1).Draw(t, "again")]
				before := l
				require.Empty(t, l.applyCall(again, at(minute)))
				require.Equal(t, before, l)
			}
		}
		for i, versions := range calls { // what has not arrived yet
			for _, c := range versions[next[i]:] {
				l.applyCall(c, at(50))
			}
		}
		newest := slices.MaxFunc(calls, func(a, b []events.Call) int {
			if c := a[0].RecordedAt.Compare(*b[0].RecordedAt); c != 0 {
				return c
			}
			return strings.Compare(a[0].CallID, b[0].CallID)
		})
		last := newest[len(newest)-1]
		if last.RecordedAt.After(decided) {
			want, _ := stageOf(Intent(*last.IntentCategory))
			require.Equal(t, want, l.Status)
			require.Equal(t, Intent(*last.IntentCategory), l.IntentCategory)
		} else {
			require.Equal(t, decision, l.Status)
		}
		require.Equal(t, *last.RecordedAt, *l.LastContactedAt)
	})
}

func TestAnErasedLeadTellsNothing(t *testing.T) {
	t.Parallel()
	l := newLead()
	l.Email, l.Notes, l.ExtraData = new("priya@example.com"), new("likes tea"), Extra{"city": json.RawMessage(`"Pune"`)}
	for _, personal := range []string{"Priya", "98765", "priya@", "tea", "Pune"} {
		require.NotContains(t, string(l.erase(at(1)).Data), personal)
	}
}
