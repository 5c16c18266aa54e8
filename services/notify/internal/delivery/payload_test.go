package delivery

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

var update = flag.Bool("update", false, "write the golden files anew")

// keys are the keys that the webhook contract promises; receivers have mapped them.
var keys = map[string]string{
	"transcription.completed": `event, event_id, schema_version, timestamp, is_test, call_id, agent_id, agent_name, agent_email, client_id, client_name, client_phone, client_email, lead_id, lead_name, lead_phone,
		call_type, duration_seconds, language, summary, action_items, action_items_text, action_items_count, sentiment, key_topics, key_topics_text, next_step, intent_category,
		intent_confidence, interest_level, objections_text, callback_time, outcome, recorded_at, call_url`,
	"lead.interested":    leadKeys,
	"lead.imported":      leadKeys,
	"followup.scheduled": followUpKeys,
	"followup.due":       followUpKeys,
	"followup.completed": followUpKeys,
}

const followUpKeys = `event, event_id, schema_version, timestamp, is_test, followup_id, call_id, agent_id, agent_name, agent_email, client_id, client_name, client_phone, lead_id, due_date, task, notes, source, followup_url`

const leadKeys = `event, event_id, schema_version, timestamp, is_test, lead_id, name, phone, email, source_campaign, course_interested_in, intent_category,
	callback_time, payment_link_url, objections_text, agent_name, agent_email, attempt_count`

func promised(event string) []string {
	list := strings.FieldsFunc(keys[event], func(r rune) bool { return strings.ContainsRune(", \n\t", r) })
	slices.Sort(list)
	return list
}

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const (
	callID   = "019abc11-0000-7000-8000-000000000001"
	agentID  = "019abc11-0000-7000-8000-000000000002"
	clientID = "019abc11-0000-7000-8000-000000000003"
	leadID   = "019abc11-0000-7000-8000-000000000005"
)

func fullCall() events.Call {
	return events.Call{
		CallID: callID, Version: 3, AgentID: agentID, ClientID: new(clientID), LeadID: new(leadID), CallType: "discovery", Status: "completed", Outcome: new("ok"),
		DurationSeconds: new(31.5), Language: new("en"), Summary: new("Meera likes <b>Plan B</b> & asks for a \"quote\".\nПозвонить ещё раз."),
		ActionItems: []string{"Send the quote", "Call on Friday"}, Sentiment: new("positive"), KeyTopics: []string{"price"}, NextStep: new("Send the quote"),
		IntentCategory: new("interested"), IntentConfidence: new(0.87), InterestLevel: new("high"), Objections: []string{"too dear", "no time"},
		CallbackTime: new(noon.Add(72 * time.Hour)), RecordedAt: new(noon.Add(-time.Minute)), CreatedAt: noon, UpdatedAt: noon,
	}
}

func known() people {
	return people{
		agent:  &Agent{ID: agentID, Name: "Asha Rao", Email: "asha@example.com"},
		client: &Client{ID: clientID, Name: new("Meera Nair"), Phone: new("+919876543210"), Email: new("meera@example.com")},
		lead:   &Lead{ID: leadID, Name: new("Priya Sharma"), Phone: new("+919876543211")},
	}
}

func of[T event.Payload](t event.Type[T], data T) Delivery {
	e := t.New(noon.Add(250*time.Millisecond), data)
	return Delivery{ID: "d", Event: e.Type, EventID: "019abc11-0000-7000-8000-00000000000e", EventTime: e.Time, Data: e.Data, CreatedAt: noon}
}

func TestPayloads(t *testing.T) {
	t.Parallel()
	followUp := events.FollowUp{FollowUpID: "019abc11-0000-7000-8000-000000000004", CallID: callID, AgentID: agentID, ClientID: new(clientID), DueDate: new(noon.Add(24 * time.Hour)), Task: new("Call Meera"), Notes: new("after 5 pm"), Status: "pending", Source: "agent"}
	lead := events.Lead{
		LeadID: leadID, Version: 3, AssignedAgentID: new(agentID), Name: "Priya Sharma", Phone: new("+919876543211"), Email: new("priya@example.com"),
		SourceCampaign: new("Diwali"), Status: "qualified", IntentCategory: "interested", CreatedAt: noon, UpdatedAt: noon,
		LeadDetails: events.LeadDetails{
			CallbackScheduledAt: new(noon.Add(48 * time.Hour)), FollowUpCount: 2,
			CourseInterestedIn: new("Data science"), PaymentLinkURL: new("https://pay.example.com/1?a=1&b=2"), Objections: new("too dear; no time"),
		},
	}
	for name, tt := range map[string]struct {
		profile endpoint.Profile
		d       Delivery
		who     people
	}{
		"transcription-completed":          {endpoint.Pabbly, of(events.TranscriptionCompleted, fullCall()), known()},
		"transcription-completed-unknown":  {endpoint.Pabbly, of(events.TranscriptionCompleted, events.Call{CallID: callID, AgentID: agentID, CallType: "default"}), people{}},
		"transcription-completed-standard": {endpoint.Standard, of(events.TranscriptionCompleted, fullCall()), known()},
		"lead-interested":                  {endpoint.Pabbly, of(events.LeadInterested, lead), known()},
		"lead-imported-unknown":            {endpoint.Pabbly, of(events.LeadImported, events.Lead{LeadID: leadID, Name: "Priya", RawPhone: new("98"), IntentCategory: "new"}), people{}},
		"lead-interested-standard":         {endpoint.Standard, of(events.LeadInterested, lead), known()},
		"lead-interested-nested":           {endpoint.PabblyNested, of(events.LeadInterested, lead), known()},
		"followup-scheduled":               {endpoint.Pabbly, of(events.FollowUpScheduled, followUp), known()},
		"followup-due":                     {endpoint.Pabbly, of(events.FollowUpDue, followUp), known()},
		"followup-completed":               {endpoint.Pabbly, of(events.FollowUpCompleted, followUp), known()},
		"followup-scheduled-unknown":       {endpoint.Pabbly, of(events.FollowUpScheduled, events.FollowUp{FollowUpID: "f", CallID: callID, AgentID: agentID, DueDate: new(noon)}), people{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := render(tt.profile, tt.d, tt.who, links{"https://crm.example.com/"})
			require.NoError(t, err)
			file := filepath.Join("testdata", name+".json")
			if *update {
				require.NoError(t, os.WriteFile(file, got, 0o600))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(string(want), string(got)))
			if tt.profile == endpoint.Pabbly {
				require.Subset(t, keysOf(t, got), promised(tt.d.Event))
			}
		})
	}
}

func keysOf(t *testing.T, body []byte) []string {
	t.Helper()
	var fields map[string]any
	require.NoError(t, json.Unmarshal(body, &fields))
	return slices.Sorted(maps.Keys(fields))
}

func TestALongPayloadIsCutAndTheSummaryLast(t *testing.T) {
	t.Parallel()
	long := func(text string, n int) string { return strings.Repeat(text, n/len(text)) }
	for name, tt := range map[string]struct {
		change func(*events.Call)
		whole  bool // the summary
	}{
		"long items":   {func(c *events.Call) { c.ActionItems = slices.Repeat([]string{long("дело ", 500)}, 60) }, true},
		"long summary": {func(c *events.Call) { c.Summary = new(long("разговор ", 40_000)) }, false},
		"everything":   {func(c *events.Call) { c.Summary, c.NextStep = new(long("é", 30_000)), new(long("é", 30_000)) }, false},
		"control letters": {func(c *events.Call) {
			c.Summary, c.Objections = new(long("\x01", 30_000)), []string{long("\x02", 30_000)}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fullCall()
			tt.change(&c)
			got, err := render(endpoint.Pabbly, of(events.TranscriptionCompleted, c), known(), links{"http://x"})
			require.NoError(t, err)
			require.LessOrEqual(t, len(got), maxBody)
			require.True(t, utf8.Valid(got))
			require.NotContains(t, string(got), "\ufffd", "a character was cut in two")
			require.Equal(t, promised("transcription.completed"), keysOf(t, got))
			var fields struct {
				Summary string   `json:"summary"`
				Items   []string `json:"action_items"`
				Text    string   `json:"action_items_text"`
				Count   int      `json:"action_items_count"`
			}
			require.NoError(t, json.Unmarshal(got, &fields))
			require.Equal(t, tt.whole, fields.Summary == *c.Summary)
			require.Equal(t, strings.Join(c.ActionItems, "\n") == fields.Text, len(fields.Items) == len(c.ActionItems), "a list is cut if its text is")
			if !tt.whole {
				require.True(t, strings.HasSuffix(fields.Summary, "… http://x/calls/"+callID), "a cut text says where the whole is")
			}
			if len(fields.Items) < len(c.ActionItems) {
				require.True(t, strings.HasSuffix(fields.Text, "… http://x/calls/"+callID))
			}
			require.Equal(t, len(c.ActionItems), fields.Count, "the count is the real one")
		})
	}
}
