package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/fake/openai"
)

// TestErasureLeavesNothing deletes a client and an agent, and looks for what they were called in every row of every table, in the
// newest messages of the compacted topics, and in the recordings.
func TestErasureLeavesNothing(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newServices(t, f, f.settings()...)
	s.start()
	admin := s.newAgent()
	a := s.anonymous()
	a.name = "Zacharias Quillfeather"
	a.post("/auth/register", map[string]any{"email": a.email, "password": a.password, "full_name": a.name}).must(http.StatusCreated)
	a.login()
	agentID := a.me()

	const canary = "Wigglesworth"
	const phone = "9812345670"
	var who client
	a.post("/clients", map[string]any{"name": "Cordelia " + canary, "phone": phone, "email": canary + "@example.com", "company": canary + " Ltd", "notes": canary}, "Idempotency-Key", "k").
		must(http.StatusCreated).into(&who)
	f.openai.Script(openai.Transcriptions, openai.AnswerTranscript(openai.Transcript{Language: "english", Duration: 24, Segments: []openai.Segment{{Start: 0, End: 24, Text: "Hello " + canary + "."}}}))
	f.openai.Script(openai.Chat, openai.AnswerInsights(map[string]any{"title": "Call with " + canary, "summary": canary + " wants a proposal.", "action_items": []string{"Write to " + canary}}))
	recorded := a.completed(a.upload(map[string]string{"client_id": who.ID}, "Idempotency-Key", "k").ID)
	var planned followUp
	a.post("/followups", map[string]any{"call_id": recorded.ID, "due_date": "2031-05-06T07:08:00Z", "task": "Call " + canary}).must(http.StatusCreated).into(&planned)
	poll(t, jobTimeout, "two events are delivered and a suggestion is made", func() bool {
		return len(admin.ids("/webhooks/deliveries?status=delivered&call_id="+recorded.ID)) == 2 && len(a.ids("/followups?status=suggested&call_id="+recorded.ID)) == 1
	})
	require.NotEmpty(t, s.rows(canary))
	require.NotEmpty(t, s.rows(a.email))
	require.Len(t, s.files(), 1)

	// A recording that is being transcribed is erased too.
	working := f.openai.Block(openai.Transcriptions)
	busy := a.upload(map[string]string{"client_id": who.ID})
	working.Wait(t)

	deleted := a.do(http.MethodDelete, "/clients/"+who.ID, nil).must(http.StatusNoContent)
	s.awaitErasure(a, deleted)
	working.Release()
	for _, id := range []string{recorded.ID, busy.ID} {
		a.get("/calls/"+id).refused(http.StatusNotFound, "call_not_found")
	}
	a.get("/followups/"+planned.ID).refused(http.StatusNotFound, "followup_not_found")
	require.Empty(t, s.files())
	s.awaitNothing("crm.clients.v1", canary, who.Phone, phone)

	gone := admin.do(http.MethodDelete, "/agents/"+agentID, nil).must(http.StatusNoContent)
	s.awaitErasure(admin, gone)
	s.awaitNothing("auth.agents.v1", "Quillfeather", a.email)
	require.NotContains(t, s.log(), canary)
	again := s.anonymous()
	again.post("/auth/register", map[string]any{"email": a.email, "password": a.password, "full_name": "Somebody else"}).must(http.StatusCreated)
}

// TestErasureOfALeadLeavesNothing does the same for a lead that came from a form, was called, and is in a file that was imported.
func TestErasureOfALeadLeavesNothing(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newServices(t, f, append(f.settings(), "PABBLY_INBOUND_SECRET="+inboundSecret)...)
	s.start()
	a := s.newAgent() // an admin

	const canary = "Wigglesworth"
	const phone = "9812345670"
	form := map[string]any{"full_name": "Cordelia " + canary, "phone_number": phone, "email": canary + "@example.com", "city": canary}
	exact, err := json.Marshal(form)
	require.NoError(t, err)
	var made struct{ ID, Phone string }
	a.as(t, "").post("/leads/inbound", form, "X-Pabbly-Signature", signature(string(exact), inboundSecret)).must(http.StatusCreated).into(&made)
	a.do(http.MethodPatch, "/leads/"+made.ID, map[string]any{"notes": canary, "assigned_agent_id": a.me()}).must(http.StatusOK)
	a.post("/leads/import", leadsFile("name,phone,email\n"+canary+","+phone+","+canary+"@example.com\n")).must(http.StatusOK)
	f.openai.Script(openai.Transcriptions, openai.AnswerTranscript(openai.Transcript{Language: "english", Duration: 24, Segments: []openai.Segment{{Start: 0, End: 24, Text: "Hello " + canary + "."}}}))
	f.openai.Script(openai.Chat, openai.AnswerInsights(map[string]any{
		"title": "Call with " + canary, "summary": canary + " is interested.", "intent_category": "interested", "objections": []string{canary}, "action_items": []string{"Write to " + canary},
	}))
	recorded := a.completed(a.upload(map[string]string{"lead_id": made.ID}).ID)
	poll(t, jobTimeout, "the events are delivered and a suggestion is made", func() bool {
		// transcription.completed, and lead.interested because of it
		return len(a.ids("/webhooks/deliveries?status=delivered&event=lead.interested")) == 1 &&
			len(a.ids("/webhooks/deliveries?status=delivered&call_id="+recorded.ID)) == 2 && len(a.ids("/followups?status=suggested&call_id="+recorded.ID)) == 1
	})
	require.NotEmpty(t, s.rows(canary))
	require.NotEmpty(t, a.ids("/leads/"+made.ID+"/timeline"))

	s.awaitErasure(a, a.do(http.MethodDelete, "/leads/"+made.ID, nil).must(http.StatusNoContent))
	a.get("/calls/"+recorded.ID).refused(http.StatusNotFound, "call_not_found")
	require.Empty(t, s.files())
	s.awaitNothing("crm.leads.v1", canary, made.Phone, phone)
	require.NotContains(t, s.log(), canary)
}

// awaitErasure waits until every service has confirmed the erasure that a deletion started.
func (s *stack) awaitErasure(as *agent, deletion answer) {
	s.t.Helper()
	path := "/erasures/" + deletion.header.Get("Erasure-Id")
	var last answer
	poll(s.t, jobTimeout, "every service has confirmed", func() bool {
		last = as.get(path)
		var got struct {
			CompletedAt *string `json:"completed_at"`
		}
		if last.status == http.StatusOK {
			last.into(&got)
		}
		return got.CompletedAt != nil
	})
}

// awaitNothing requires that no text is left anywhere, once every event has been published. topic is the compacted one of the person.
func (s *stack) awaitNothing(topic string, texts ...string) {
	s.t.Helper()
	poll(s.t, jobTimeout, "every event is published", func() bool {
		for _, service := range backends {
			if len(s.query("select type from "+service+".outbox limit 1")) > 0 {
				return false
			}
		}
		return true
	})
	newest := s.newest(topic)
	for _, text := range texts {
		require.Empty(s.t, s.rows(text), "rows with %s", text)
		for key, value := range newest {
			require.NotContains(s.t, value, text, "the newest message of %s in %s", key, topic)
		}
		for _, file := range s.files() {
			content, err := os.ReadFile(file)
			require.NoError(s.t, err)
			require.NotContains(s.t, file+string(content), text)
		}
	}
}

// backends are the services with a schema.
var backends = []string{"auth", "calls", "crm", "notify"}

// setting returns a setting of the programs of the stack.
func (s *stack) setting(name string) string {
	for _, variable := range s.units[0].environ {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			return value
		}
	}
	s.t.Fatalf("%s is not set", name)
	return ""
}

// query returns the texts that a query returns.
func (s *stack) query(sql string, args ...any) []string {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.setting("DATABASE_URL"))
	require.NoError(s.t, err)
	defer func() { _ = conn.Close(s.t.Context()) }()
	rows, err := conn.Query(s.t.Context(), sql, args...)
	require.NoError(s.t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(s.t, err)
	return texts
}

// rows returns the rows of all tables of all services that contain a text, also in a column of bytes.
func (s *stack) rows(text string) (found []string) {
	s.t.Helper()
	for _, table := range s.query(`select format('%I.%I', table_schema, table_name) from information_schema.tables where table_type = 'BASE TABLE' and table_schema = any($1)`, backends) {
		found = append(found, s.query(fmt.Sprintf(`select '%s: ' || left(t::text, 300) from %s t where t::text ilike '%%' || $1 || '%%' or t::text like '%%' || $2 || '%%'`, table, table), text, hex.EncodeToString([]byte(text)))...)
	}
	return found
}

// newest returns the newest value of each key of a topic, which is what compaction leaves.
func (s *stack) newest(topic string) map[string]string {
	s.t.Helper()
	values := map[string]string{}
	for _, m := range s.messages(topic) {
		values[string(m.Key)] = string(m.Value)
	}
	require.NotEmpty(s.t, values)
	return values
}

// messages returns all messages of topics, or without any those of all topics.
func (s *stack) messages(topics ...string) (found []kafka.Message) {
	s.t.Helper()
	broker := strings.Split(s.setting("KAFKA_BROKERS"), ",")[0]
	conn, err := kafka.DialContext(s.t.Context(), "tcp", broker)
	require.NoError(s.t, err)
	defer func() { _ = conn.Close() }()
	partitions, err := conn.ReadPartitions(topics...)
	require.NoError(s.t, err)
	for _, p := range partitions {
		leader, err := kafka.DialLeader(s.t.Context(), "tcp", broker, p.Topic, p.ID)
		require.NoError(s.t, err)
		end, err := leader.ReadLastOffset()
		require.NoError(s.t, err)
		require.NoError(s.t, leader.Close())
		if end == 0 {
			continue
		}
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{broker}, Topic: p.Topic, Partition: p.ID, MinBytes: 1, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond})
		for next := int64(0); next < end; {
			m, err := reader.ReadMessage(s.t.Context())
			require.NoError(s.t, err)
			found = append(found, m)
			next = m.Offset + 1
		}
		require.NoError(s.t, reader.Close())
	}
	return found
}
