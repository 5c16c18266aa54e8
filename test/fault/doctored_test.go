package fault

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// sound returns a snapshot of a platform on which one client, one call, one follow-up and two leads were made, without a broken invariant.
func sound() snapshot {
	return snapshot{
		Ledger: []entry{
			{Number: 1, Operation: createClient, Mark: "anna", Status: 503, Retry: true},
			{Number: 2, Operation: createClient, Mark: "anna", Status: 201, ID: "c1"},
			{Number: 3, Operation: changeClient, Mark: "first", Target: "c1", Status: 200},
			{Number: 4, Operation: changeClient, Mark: "lost", Target: "c1", Error: "EOF"},
			{Number: 5, Operation: upload, Mark: "talk", Status: 202, ID: "k1"},
			{Number: 6, Operation: abortUpload, Mark: "half"},
			{Number: 7, Operation: createFollowUp, Mark: "send it", Status: 201, ID: "f1"},
			{Number: 8, Operation: completeTask, Target: "f1", Status: 200},
			{Number: 9, Operation: createClient, Mark: "lost", Error: "EOF"},
			{Number: 10, Operation: createLead, Mark: "ravi", Status: 201, ID: "l1"},
			{Number: 11, Operation: changeLead, Mark: "keen", Target: "l1", Status: 200},
			{Number: 12, Operation: receiveLead, Mark: "meera", Error: "EOF"},
			{Number: 13, Operation: receiveLead, Mark: "meera", Status: 200, ID: "l2"}, // merged into what the first has made
		},
		Clients:   []clientRow{{"c1", "anna", "lost"}},
		Calls:     []callRow{{"k1", "a/k1", "talk.wav", "completed", "", 1}},
		FollowUps: []followUpRow{{"f1", "send it", "completed"}},
		Leads:     []leadRow{{"l1", "ravi", "keen"}, {"l2", "meera", ""}},
		Counts:    []countRow{{"team", "status", "new", 2, 2}, {"a1", "status", "new", 1, 1}, {"team", "at new_leads", "1990000", 2, 2}},
		Committed: []committed{
			{"crm", "e1", "crm.clients.v1", "client.created", "c1", 1},
			{"calls", "e2", "calls.calls.v1", "call.uploaded", "k1", 1},
			{"calls", "e3", "calls.calls.v1", "transcription.completed", "k1", 4},
			{"crm", "e4", "crm.followups.v1", "followup.scheduled", "f1", 1},
		},
		Published: []message{
			{Topic: "crm.clients.v1", ID: "e1", Type: "client.created", Key: "c1", Version: 1},
			{Topic: "calls.calls.v1", ID: "e2", Type: "call.uploaded", Key: "k1", Version: 1},
			{Topic: "calls.calls.v1", ID: "e3", Type: "transcription.completed", Key: "k1", Version: 4},
			{Topic: "calls.calls.v1", ID: "e2", Type: "call.uploaded", Key: "k1", Version: 1}, // again, which is allowed
			{Topic: "crm.followups.v1", ID: "e4", Type: "followup.scheduled", Key: "f1", Version: 1},
		},
		Handled: []handled{{"calls", "e1", 11}, {"notify", "e1", 12}, {"crm", "e2", 13}, {"crm", "e3", 14}, {"notify", "e3", 15}, {"notify", "e4", 16}},
		Effects: []effect{
			{"calls.clients", "c1", 1, 11}, {"notify.clients", "c1", 1, 12}, {"crm.calls", "k1", 1, 13}, {"crm.calls", "k1", 4, 14},
			{"notify.deliveries", "e3/p", 0, 15}, {"notify.deliveries", "e4/p", 0, 16},
		},
		Statuses:   []status{{"k1", "", "pending"}, {"k1", "pending", "transcribing"}, {"k1", "transcribing", "completed"}},
		Copies:     []copyRow{{"calls.clients", "c1", 1}, {"notify.clients", "c1", 1}, {"crm.calls", "k1", 4}},
		Deliveries: []deliveryRow{{"transcription.completed", "e3", "p", "delivered", ""}, {"followup.scheduled", "e4", "p", "retrying", "status_500"}},
		Webhooks:   []webhook{{"transcription.completed", "e3", "w3", nil}, {"followup.scheduled", "e4", "w4", nil}, {"followup.scheduled", "e4", "w4", nil}},
		Bills:      1,
		Files:      []string{"a/k1"},
	}
}

// TestTheCheckerFindsEachBreach tests the checker on a sound snapshot, and on one for each way in which an invariant breaks.
func TestTheCheckerFindsEachBreach(t *testing.T) {
	t.Parallel()
	require.Empty(t, check(sound()))
	killed := sound()
	killed.Bills, killed.Lost, killed.Kills = 6, 3, 2
	require.Empty(t, check(killed), "each worker that was killed may cost one more")
	unknown := sound()
	unknown.Files, unknown.Unknown = append(unknown.Files, "a/k2"), 1
	require.Empty(t, check(unknown), "a commit without an answer may leave its file")
	for name, c := range map[string]struct {
		invariant string
		damage    func(*snapshot)
	}{
		"an acknowledged client is gone":   {"I1", func(s *snapshot) { s.Clients = nil }},
		"another id than was acknowledged": {"I1", func(s *snapshot) { s.FollowUps[0].ID = "f9" }},
		"a client is there twice":          {"I1", func(s *snapshot) { s.Clients = append(s.Clients, clientRow{"c2", "anna", ""}) }},
		"a lost answer is there twice": {"I1", func(s *snapshot) {
			s.Clients = append(s.Clients, clientRow{"c2", "lost", ""}, clientRow{"c3", "lost", ""})
		}},
		"half of an upload is a call":           {"I1", func(s *snapshot) { s.Calls[0].Filename = "half.wav" }},
		"an acknowledged change is gone":        {"I1", func(s *snapshot) { s.Clients[0].Notes = "" }},
		"an acknowledged lead is gone":          {"I1", func(s *snapshot) { s.Leads = s.Leads[1:] }},
		"a delivery is acknowledged and gone":   {"I1", func(s *snapshot) { s.Leads = s.Leads[:1] }},
		"a repeated delivery made two leads":    {"I1", func(s *snapshot) { s.Leads = append(s.Leads, leadRow{"l3", "meera", ""}) }},
		"a change of a lead is gone":            {"I1", func(s *snapshot) { s.Leads[0].Notes = "" }},
		"a completed follow-up is open":         {"I1", func(s *snapshot) { s.FollowUps[0].Status = "pending" }},
		"work that does not end":                {"I2", func(s *snapshot) { s.Settled = []string{"1 events in the outbox of crm"} }},
		"an event is not published":             {"I2", func(s *snapshot) { s.Published = s.Published[:4] }},
		"an event was published and not made":   {"I2", func(s *snapshot) { s.Published = append(s.Published, message{ID: "e9", Topic: "calls.calls.v1"}) }},
		"an event is not handled":               {"I2", func(s *snapshot) { s.Handled = s.Handled[:5] }},
		"an event is recorded twice":            {"I2", func(s *snapshot) { s.Handled = append(s.Handled, handled{"crm", "e2", 19}) }},
		"an effect without a record":            {"I2", func(s *snapshot) { s.Effects[0].Tx = 99 }},
		"an effect is applied twice":            {"I2", func(s *snapshot) { s.Effects = append(s.Effects, effect{"crm.calls", "k1", 4, 13}) }},
		"versions are published in wrong order": {"I3", func(s *snapshot) { s.Published[1], s.Published[2] = s.Published[2], s.Published[1] }},
		"versions are handled in wrong order":   {"I3", func(s *snapshot) { s.Effects[2], s.Effects[3] = s.Effects[3], s.Effects[2] }},
		"a copy is old":                         {"I3", func(s *snapshot) { s.Copies[2].Version = 1 }},
		"a copy is missing":                     {"I3", func(s *snapshot) { s.Copies = s.Copies[:2] }},
		"a call goes back":                      {"I4", func(s *snapshot) { s.Statuses = append(s.Statuses, status{"k1", "completed", "transcribing"}) }},
		"a call does not end":                   {"I4", func(s *snapshot) { s.Calls[0].Status = "transcribing" }},
		"a call ends twice":                     {"I4", func(s *snapshot) { s.Committed = append(s.Committed, s.Committed[2]) }},
		"a call has no transcript":              {"I4", func(s *snapshot) { s.Calls[0].Transcripts = 0 }},
		"a call fails without a code":           {"I4", func(s *snapshot) { s.Calls[0].Status = "failed" }},
		"a transcription is paid twice":         {"I4", func(s *snapshot) { s.Bills = 2 }},
		"one more than workers were killed":     {"I4", func(s *snapshot) { s.Bills, s.Lost, s.Kills = 7, 3, 2 }},
		"an event has no delivery":              {"I5", func(s *snapshot) { s.Deliveries = s.Deliveries[:1] }},
		"a delivery is stranded":                {"I5", func(s *snapshot) { s.Missing = 1 }},
		"an event has two deliveries":           {"I5", func(s *snapshot) { s.Deliveries = append(s.Deliveries, s.Deliveries[0]) }},
		"a dead delivery has no reason":         {"I5", func(s *snapshot) { s.Deliveries[1] = deliveryRow{"followup.scheduled", "e4", "p", "dead", ""} }},
		"a delivery was not received":           {"I5", func(s *snapshot) { s.Webhooks = s.Webhooks[1:] }},
		"attempts have different ids":           {"I5", func(s *snapshot) { s.Webhooks[2].WebhookID = "w5" }},
		"a signature is wrong":                  {"I5", func(s *snapshot) { s.Webhooks[0].Problems = []string{"the signature does not match"} }},
		"a lead is counted twice":               {"I6", func(s *snapshot) { s.Counts[0].Stored = 3 }},
		"a lead is not counted":                 {"I6", func(s *snapshot) { s.Counts[1].Stored = 0 }},
		"what is gone is counted":               {"I6", func(s *snapshot) { s.Counts = append(s.Counts, countRow{"team", "intent", "new", 1, 0}) }},
		"a recording is gone":                   {"I7", func(s *snapshot) { s.Files = nil }},
		"a file belongs to no call":             {"I7", func(s *snapshot) { s.Files = append(s.Files, "a/k2") }},
		"a 500":                                 {"I8", func(s *snapshot) { s.Ledger[0].Status = 500 }},
		"a 503 without Retry-After":             {"I8", func(s *snapshot) { s.Ledger[0].Retry = false }},
		"what was acknowledged cannot be read":  {"I8", func(s *snapshot) { s.Ledger = append(s.Ledger, entry{Operation: read, Target: "c1", Status: 404}) }},
		"a request hangs":                       {"I8", func(s *snapshot) { s.Ledger[8].Took = requestTimeout }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sound()
			c.damage(&s)
			found := check(s)
			require.True(t, slices.ContainsFunc(found, func(v violation) bool { return v.Invariant == c.invariant }), "found %v", found)
		})
	}
}
