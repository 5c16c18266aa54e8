package events_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
)

var at = time.Date(2026, 11, 24, 9, 30, 0, 123456000, time.UTC)

const (
	agentID, sessionID = "01935c5e-0000-7000-8000-000000000001", "01935c5e-0000-7000-8000-000000000002"
	callID, clientID   = "01935c5e-0000-7000-8000-000000000003", "01935c5e-0000-7000-8000-000000000004"
	leadID, followUpID = "01935c5e-0000-7000-8000-000000000005", "01935c5e-0000-7000-8000-000000000006"
	deliveryID, hookID = "01935c5e-0000-7000-8000-000000000007", "01935c5e-0000-7000-8000-000000000008"
	eventID, erasureID = "01935c5e-0000-7000-8000-000000000009", "01935c5e-0000-7000-8000-00000000000a"
	attemptID          = "01935c5e-0000-7000-8000-00000000000a"
)

func agent(active bool) events.Agent {
	return events.Agent{AgentID: agentID, Version: 2, Email: "asha@example.com", FullName: "Asha Rao", Role: "agent", IsActive: active, CreatedAt: at, UpdatedAt: at.Add(time.Hour)}
}

func call(status string) events.Call {
	return events.Call{
		CallID: callID, Version: 3, AgentID: agentID, ClientID: new(clientID), LeadID: new(leadID), Title: new("Pricing call"), CallType: "discovery",
		CallTag: new("connected"), Status: status, Outcome: new("ok"), ErrorCode: new("timeout"), Retryable: new(true), DurationSeconds: new(31.5),
		Language: new("en"), Summary: new("Asha explained the price."), ActionItems: []string{"Send the offer"}, Sentiment: new("positive"),
		KeyTopics: []string{"price", "start date"}, NextStep: new("Call on Friday"), IntentCategory: new("interested"), IntentConfidence: new(0.9),
		InterestLevel: new("high"), Objections: []string{"too expensive"}, CallbackTime: new(at.Add(48 * time.Hour)), Attempts: 1,
		Coverage: new(0.8), Talk: &events.Talk{AgentRatio: 0.4, LongestMonologue: 7.5, Questions: 3, WordsPerMinute: 141.2, Silence: 4.1, Turns: 9},
		Models: events.CallModels{Transcription: new("gpt-transcribe"), Chat: new("gpt-5.4-mini")}, CostUSD: new(0.0031),
		RecordedAt: new(at.Add(-time.Hour)), CreatedAt: at, UpdatedAt: at.Add(time.Minute), CompletedAt: new(at.Add(time.Minute)),
	}
}

func bareCall(status string) events.Call {
	return events.Call{CallID: callID, Version: 1, AgentID: agentID, CallType: "default", Status: status, ActionItems: []string{}, KeyTopics: []string{}, Objections: []string{}, CreatedAt: at, UpdatedAt: at}
}

func client() events.Client {
	return events.Client{ClientID: clientID, Version: 2, AgentID: agentID, Name: "Priya Shah", Email: new("priya@example.com"), Phone: new("+919876543210"), Company: new("Shah & Sons"), MergedInto: new(leadID), CreatedAt: at, UpdatedAt: at.Add(time.Hour)}
}

func bareClient() events.Client {
	return events.Client{ClientID: clientID, Version: 1, AgentID: agentID, CreatedAt: at, UpdatedAt: at}
}

func followUp(status string) events.FollowUp {
	return events.FollowUp{
		FollowUpID: followUpID, Version: 2, CallID: callID, ClientID: new(clientID), LeadID: new(leadID), AgentID: agentID, DueDate: new(at.Add(72 * time.Hour)),
		Task: new("Send the offer"), Notes: new("with the discount"), Status: status, Source: "agent", CreatedAt: at, UpdatedAt: at.Add(time.Hour), CompletedAt: new(at.Add(time.Hour)),
	}
}

func bareFollowUp() events.FollowUp {
	return events.FollowUp{FollowUpID: followUpID, Version: 1, CallID: callID, AgentID: agentID, Status: "pending", Source: "ai", CreatedAt: at, UpdatedAt: at}
}

func lead(intent string) events.Lead {
	return events.Lead{
		LeadID: leadID, Version: 2, AssignedAgentID: new(agentID), Name: "Priya Shah", Phone: new("+919876543210"), RawPhone: new("98765"),
		Email: new("priya@example.com"), SourceCampaign: new("Diwali"), AdSet: new("Mumbai 25-34"), FormID: new("f-1"), FormName: new("Callback form"),
		GoogleSheetRowID: new("7"), Status: "qualified", StatusReason: new("call: interested"), IntentCategory: intent, LeadDetails: details(),
		ExtraData: map[string]json.RawMessage{"city": json.RawMessage(`"Pune"`)}, ClientID: new(clientID), CallID: new(callID), AttemptID: new(attemptID),
		CreatedAt: at, UpdatedAt: at.Add(time.Hour),
	}
}

func details() events.LeadDetails {
	return events.LeadDetails{
		IntentConfidence: new(0.9),
		InterestLevel:    new("high"), CallbackScheduledAt: new(at.Add(48 * time.Hour)), NextFollowUpAt: new(at.Add(72 * time.Hour)),
		LastContactedAt: new(at.Add(-time.Hour)), FollowUpCount: 3, CourseInterestedIn: new("Data science"), PaymentLinkURL: new("https://pay.example.com/1"),
		PaymentLinkSent: true, Objections: new("too expensive"), Notes: new("prefers mornings"), ConversationSummary: new("Asha explained the price."),
	}
}

func bareLead(intent string) events.Lead {
	return events.Lead{
		LeadID: leadID, Version: 1, Name: "Priya Shah", Status: "new", IntentCategory: intent, ExtraData: map[string]json.RawMessage{},
		CreatedAt: at, UpdatedAt: at,
	}
}

func delivery(status string) events.Delivery {
	return events.Delivery{DeliveryID: deliveryID, EndpointID: hookID, EventID: eventID, EventType: "transcription.completed", CallID: new(callID), FollowUpID: new(followUpID), ClientID: new(clientID), LeadID: new(leadID), Status: status, Attempts: 3, Reason: new("410 Gone"), EndedAt: at}
}

func bareDelivery(status string) events.Delivery {
	return events.Delivery{DeliveryID: deliveryID, EndpointID: hookID, EventID: eventID, EventType: "followup.scheduled", Status: status, Attempts: 1, EndedAt: at}
}

// golden are the payloads of testdata by event type: first that of <type>.json, then that of <type>.minimal.json, in which all
// optional fields are empty.
var golden = map[string][]any{
	"agent.registered":        {agent(true)},
	"agent.updated":           {agent(true)},
	"agent.deactivated":       {agent(false)},
	"session.revoked":         {events.SessionEnd{AgentID: agentID, SessionID: sessionID, Reason: "logout", RevokedAt: at}},
	"call.uploaded":           {call("pending"), bareCall("pending")},
	"call.transcribing":       {call("transcribing"), bareCall("transcribing")},
	"transcription.completed": {call("completed"), bareCall("completed")},
	"transcription.failed":    {call("failed"), bareCall("failed")},
	"call.updated":            {call("completed"), bareCall("pending")},
	"call.deleted":            {call("completed"), bareCall("pending")},
	"client.created":          {client(), bareClient()},
	"client.updated":          {client(), bareClient()},
	"client.deleted":          {client(), bareClient()},
	"lead.imported":           {lead("new"), bareLead("new")},
	"lead.updated":            {lead("interested"), bareLead("interested")},
	"lead.deleted":            {lead("interested"), bareLead("interested")},
	"lead.no_answer":          {lead("no_answer"), bareLead("no_answer")},
	"lead.not_interested":     {lead("not_interested"), bareLead("not_interested")},
	"lead.callback_requested": {lead("callback_requested"), bareLead("callback_requested")},
	"lead.interested":         {lead("interested"), bareLead("interested")},
	"lead.payment_pending":    {lead("payment_pending"), bareLead("payment_pending")},
	"lead.future_planning":    {lead("future_planning"), bareLead("future_planning")},
	"lead.converted":          {lead("converted"), bareLead("converted")},
	"lead.wrong_number":       {lead("wrong_number"), bareLead("wrong_number")},
	"lead.undecided":          {lead("undecided"), bareLead("undecided")},
	"followup.scheduled":      {followUp("pending"), bareFollowUp()},
	"followup.updated":        {followUp("pending"), bareFollowUp()},
	"followup.completed":      {followUp("completed"), bareFollowUp()},
	"followup.due":            {followUp("pending"), bareFollowUp()},
	"followup.deleted":        {followUp("dismissed"), bareFollowUp()},
	"webhook.delivered":       {delivery("delivered"), bareDelivery("delivered")},
	"webhook.dead":            {delivery("dead"), bareDelivery("dead")},
	"erasure.requested":       {events.Erasure{ErasureID: erasureID, Kind: "client", SubjectID: clientID, SubjectVersion: 3, RequestedBy: agentID, RequestedAt: at}},
	"erasure.waiting":         {events.ErasureWait{ErasureID: erasureID, Service: "calls", Reason: "legal_hold", Since: at}},
	"erasure.done":            {events.ErasureConfirmation{ErasureID: erasureID, Kind: "client", SubjectID: clientID, Service: "calls", DoneAt: at.Add(time.Second)}},
}

func goldenFile(t *testing.T, typ string, i int) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", typ+[]string{"", ".minimal"}[i]+".json"))
	require.NoError(t, err)
	return raw
}

func pretty(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", "  ")
	require.NoError(t, err)
	return string(raw) + "\n"
}

func TestPayloadsMatchTheirGoldenFiles(t *testing.T) {
	t.Parallel()
	for typ, payloads := range golden {
		for i, want := range payloads {
			raw := goldenFile(t, typ, i)
			require.Empty(t, cmp.Diff(string(raw), pretty(t, want)), "%s: the payload differs from its golden file; only adding a field is allowed", typ)

			got := reflect.New(reflect.TypeOf(want))
			strict := json.NewDecoder(bytes.NewReader(raw))
			strict.DisallowUnknownFields()
			require.NoError(t, strict.Decode(got.Interface()), typ)
			require.Empty(t, cmp.Diff(want, got.Elem().Interface()), typ)
			require.Equal(t, string(raw), pretty(t, got.Interface()), typ)

			newer := bytes.Replace(raw, []byte("{"), []byte(`{"a_field_of_tomorrow": {"x": [1]},`), 1)
			again := reflect.New(reflect.TypeOf(want))
			require.NoError(t, json.Unmarshal(newer, again.Interface()))
			require.Equal(t, got.Elem().Interface(), again.Elem().Interface(), "unknown fields are ignored")
		}
	}
}

func TestFullPayloadsHaveEveryField(t *testing.T) {
	t.Parallel()
	for typ, payloads := range golden {
		for f, v := range reflect.ValueOf(payloads[0]).Fields() {
			if f.Type.Kind() != reflect.Bool {
				require.False(t, v.IsZero(), "%s: field %s of the full payload is empty", typ, f.Name)
			}
			if f.Type.Kind() == reflect.Pointer {
				require.Len(t, payloads, 2, "%s has nullable fields and needs a minimal payload", typ)
				require.True(t, reflect.ValueOf(payloads[1]).FieldByIndex(f.Index).IsNil(), "%s: field %s of the minimal payload is set", typ, f.Name)
			}
		}
	}
}

// declared returns every event type that the package declares, with the name of the topic's constant.
func declared(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	types := map[string]string{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if index, ok := literal.Type.(*ast.IndexExpr); ok && isType(index.X) {
				text, err := strconv.Unquote(literal.Elts[0].(*ast.KeyValueExpr).Value.(*ast.BasicLit).Value)
				require.NoError(t, err)
				types[text] = literal.Elts[1].(*ast.KeyValueExpr).Value.(*ast.Ident).Name
			}
			return true
		})
	}
	return types
}

func isType(x ast.Expr) bool {
	selector, ok := x.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == "Type"
}

func TestCatalogAndGoldenFilesCoverEveryType(t *testing.T) {
	t.Parallel()
	types := declared(t)
	require.NotEmpty(t, types)
	listed := 0
	for _, topic := range events.Topics() {
		require.True(t, topic.Producer == "" || strings.HasPrefix(topic.Name, topic.Producer+"."))
		for _, name := range topic.Types {
			require.Contains(t, types, name)
			require.Contains(t, golden, name)
			listed++
		}
	}
	require.Equal(t, len(types), listed, "each type has one topic")
	require.Len(t, golden, len(types))
	files, err := os.ReadDir("testdata")
	require.NoError(t, err)
	for _, f := range files {
		require.Contains(t, golden, strings.TrimSuffix(strings.TrimSuffix(f.Name(), ".json"), ".minimal"), "a file without an event type")
	}
}

func TestEachTopicIsEitherCompactedOrHasARetention(t *testing.T) {
	t.Parallel()
	for _, topic := range events.Topics() {
		require.NotEqual(t, topic.Compacted, topic.Retention > 0, topic.Name)
	}
}

func TestAnEventHasANewIDAndIsDecoded(t *testing.T) {
	t.Parallel()
	e := events.ClientUpdated.New(at.In(time.FixedZone("IST", 19800)), client())
	require.True(t, event.ValidID(e.ID))
	require.Equal(t, event.Event{ID: e.ID, Type: "client.updated", Topic: "crm.clients.v1", Key: clientID, Time: at, Data: e.Data}, e)
	require.NotEqual(t, e.ID, events.ClientUpdated.New(at, client()).ID)
	got, err := events.ClientUpdated.Decode(e)
	require.NoError(t, err)
	require.Equal(t, client(), got.Data)
	for _, bad := range []string{"", "null", "[]", "{}", `{"client_id":1}`, `{"client_id":"x"`} {
		e.Data = json.RawMessage(bad)
		_, err := events.ClientUpdated.Decode(e)
		require.True(t, fault.Is(err, fault.Invalid), bad)
	}
}
