package lead

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/convoflow/convoflow/api/events"
)

func plusOnly(number string) (string, bool) { return number, len(number) > 3 && number[0] == '+' }

// TestMergeNeverOverwritesWhatAPersonChanged lets automations and persons change one lead in any order. The model knows who wrote
// each value last.
func TestMergeNeverOverwritesWhatAPersonChanged(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.SampledFrom([]string{"", "a", "b", "c"})
		keys := []string{"k1", "k2", "k3"}
		incoming := func(label string) Incoming {
			var in Incoming
			in.SetPhone("+919876543210", plusOnly)
			for _, field := range []string{"name", "source_campaign", "notes", "course_interested_in"} {
				in.Set(field, value.Draw(t, label+" "+field))
			}
			for _, key := range keys {
				if v := value.Draw(t, label+" "+key); v != "" {
					in.SetExtra(key, json.RawMessage(fmt.Sprintf("%q", v)))
				}
			}
			return in
		}
		first := incoming("first")
		l, imported := first.New(nil, now)
		require.Equal(t, events.LeadImported.Name, imported.Type)
		persons := map[string]bool{} // keys of extra_data that a person has written or removed last
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			before, version := l, l.Version
			beforeData := maps.Clone(l.ExtraData)
			if rapid.Bool().Draw(t, "by a person") {
				data := maps.Clone(l.ExtraData) // a form sends all of it back
				key, v := rapid.SampledFrom(keys).Draw(t, "key"), rapid.SampledFrom([]string{"", "mine", "also mine"}).Draw(t, "mine")
				if v == "" {
					delete(data, key)
				} else {
					data[key] = json.RawMessage(fmt.Sprintf("%q", v))
				}
				_, had := l.ExtraData[key]
				_, sent := l.Received[key]
				switch {
				case v == "" && !sent: // a key that no form has sent is as if it had never been
					delete(persons, key)
				case had || v != "":
					persons[key] = true
				}
				l.ExtraData = data
				l.Edited(l.IntentCategory, now)
				continue
			}
			in := incoming("next")
			changed, ok := l.Merge(in, now)
			require.Equal(t, ok, l.Version == version+1)
			if ok {
				require.Equal(t, events.LeadUpdated.Name, changed.Type)
			}
			require.Equal(t, beforeData, before.ExtraData, "the state before is not changed")
			for _, f := range [][2]*string{{before.SourceCampaign, l.SourceCampaign}, {before.Notes, l.Notes}, {before.CourseInterestedIn, l.CourseInterestedIn}} {
				if f[0] != nil {
					require.Equal(t, f[0], f[1], "a field with a value stays")
				}
			}
			if before.Name != before.Number() {
				require.Equal(t, before.Name, l.Name)
			}
			require.NotEmpty(t, l.Name)
			for _, key := range keys {
				was, had := beforeData[key]
				is, has := l.ExtraData[key]
				sent, isSent := in.ExtraData[key]
				switch {
				case persons[key]:
					require.Equal(t, had, has, "%s is a person's", key)
					require.Equal(t, was, is, "%s is a person's", key)
				case isSent:
					require.Equal(t, sent, is, "%s is the form's", key)
				default:
					require.Equal(t, was, is, "%s was not sent", key)
				}
			}
			_, again := l.Merge(in, now)
			require.False(t, again, "the same delivery again changes nothing")
		}
	})
}

func TestMergeFillsEmptyFields(t *testing.T) {
	t.Parallel()
	var in Incoming
	in.SetPhone("+919876543210", plusOnly)
	for _, field := range []string{"callback_scheduled_at", "next_followup_at", "last_contacted_at"} {
		require.True(t, in.Set(field, "2026-11-25 10:00"))
	}
	l := newLead()
	l.NextFollowUpAt = new(at(7))
	_, ok := l.Merge(in, at(1))
	require.True(t, ok)
	tomorrow := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	require.Equal(t, []time.Time{tomorrow, at(7), tomorrow}, []time.Time{*l.CallbackScheduledAt, *l.NextFollowUpAt, *l.LastContactedAt})
}

func TestWhatDoesNotFitAFieldIsRefused(t *testing.T) {
	t.Parallel()
	var in Incoming
	for field, value := range map[string]string{
		"email": "nobody", "interest_level": "burning", "intent_category": "maybe", "intent_confidence": "NaN", "followup_count": "-1",
		"next_followup_at": "tomorrow", "payment_link_sent": "perhaps", "id": "x", "phone": "+919876543210", "extra_data": "{}",
	} {
		require.False(t, in.Set(field, value), field)
	}
	require.Equal(t, Incoming{}, in)
	for _, field := range FieldNames() {
		require.True(t, in.Set(field, ""), "%s: an empty text is unknown", field)
	}
	for field, value := range map[string]string{"next_followup_at": "2026-11-25 10:00", "payment_link_sent": "TRUE", "status": "Qualified", "intent_confidence": "0.5"} {
		require.True(t, in.Set(field, value), field)
	}
	require.Equal(t, Status("qualified"), in.Status)
}

func TestASnapshotRestoresAllThatAnImportChanges(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	var first, second Incoming
	first.SetPhone("+919876543210", plusOnly)
	first.SetExtra("k", json.RawMessage(`1`))
	second.SetPhone("+919876543211", plusOnly)
	for _, field := range FieldNames() {
		value := map[string]string{
			"email": "a@example.com", "interest_level": "high", "intent_category": "interested", "intent_confidence": "0.5", "followup_count": "3",
			"next_followup_at": "2026-11-25", "callback_scheduled_at": "2026-11-25", "last_contacted_at": "2026-11-23", "payment_link_sent": "true",
		}[field]
		if value == "" {
			value = "x"
		}
		require.True(t, second.Set(field, value), field)
	}
	second.SetExtra("k", json.RawMessage(`2`))
	l, _ := first.New(nil, now)
	before := l
	raw, err := json.Marshal(l.Snapshot())
	require.NoError(t, err)
	changed, ok := l.Overwrite(second, now.Add(time.Hour))
	require.True(t, ok)
	require.Equal(t, "lead.interested", changed.Type)
	_, again := l.Overwrite(second, now.Add(2*time.Hour))
	require.False(t, again)
	var s Snapshot
	require.NoError(t, json.Unmarshal(raw, &s))
	l.Restore(s, now.Add(time.Hour))
	require.Equal(t, int64(3), l.Version)
	l.Version, l.UpdatedAt = before.Version, before.UpdatedAt
	require.Equal(t, before, l)
}
