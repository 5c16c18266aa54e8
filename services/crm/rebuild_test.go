package crm_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// derived are what crm makes of the topics of other services, without the times and versions of its own writes.
var derived = []string{
	`select to_jsonb(c)::text from calls c order by id`,
	`select to_jsonb(a)::text from agents a order by id`,
	`select (to_jsonb(t) - 'version')::text from timeline t where kind in ('call', 'delivery') order by id`,
	`select concat_ws(' ', id, call_id, client_id, lead_id, agent_id, due_date, task, status, source, announced) from followups order by id`,
	`select concat_ws(' ', id, status, status_reason, intent_category, intent_confidence, interest_level, objections, callback_scheduled_at, last_contacted_at, conversation_summary, call_id, call_version, call_at) from leads order by id`,
}

// tables returns the rows of derived.
func (a *app) tables() (rows []string) {
	a.T.Helper()
	for _, query := range derived {
		rows = append(rows, pgtest.Column[string](a.T, a.DB, query)...)
	}
	return rows
}

// past is the histories of calls, agents and deliveries, each in its order, and the clients and leads that they name.
type past struct {
	histories             [][]event.Event
	agents, clients, lead []string
	merged                [2]string // a client and the one that it was merged into
}

func newPast(r *rand.Rand) (p past) {
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	id := func() *string { return new(event.NewID()) }
	for range 3 {
		p.agents, p.clients, p.lead = append(p.agents, *id()), append(p.clients, *id()), append(p.lead, *id())
	}
	p.merged = [2]string{*id(), p.clients[0]}
	for i, agentID := range p.agents {
		a := events.Agent{AgentID: agentID, Version: 1, FullName: fmt.Sprint("Agent ", i), Email: fmt.Sprint(i, "@example.com"), Role: "agent", IsActive: true}
		renamed, left := a, a
		renamed.Version, renamed.FullName = 3, "Renamed"
		left.Version, left.IsActive = 4, false
		p.histories = append(p.histories, []event.Event{events.AgentRegistered.New(now, a), events.AgentUpdated.New(now, renamed), events.AgentDeactivated.New(now, left)}[:1+r.IntN(3)])
	}
	clients := append([]string{p.merged[0]}, p.clients...)
	for n := range 15 {
		at := now.Add(time.Duration(r.IntN(600)) * time.Minute)
		c := events.Call{CallID: *id(), Version: 1, AgentID: p.agents[r.IntN(3)], Status: "pending", CreatedAt: at, RecordedAt: &at, Title: new(fmt.Sprint("Call ", n))}
		party := func() {
			c.ClientID, c.LeadID = nil, nil
			if r.IntN(3) > 0 {
				c.ClientID = &clients[r.IntN(len(clients))]
			}
			if r.IntN(3) > 0 {
				c.LeadID = &p.lead[r.IntN(3)]
			}
		}
		party()
		history := []event.Event{events.CallUploaded.New(at, c)}
		delivery := events.Delivery{
			DeliveryID: *id(), EndpointID: *id(), EventID: *id(), EventType: "transcription.completed", CallID: &c.CallID, ClientID: c.ClientID, LeadID: c.LeadID,
			Status: "delivered", Attempts: 1, EndedAt: at.Add(time.Minute),
		}
		for range 1 + r.IntN(4) {
			c.Version += int64(1 + r.IntN(3))
			switch r.IntN(4) {
			case 0:
				c.Status = "transcribing"
				history = append(history, events.CallTranscribing.New(at, c))
			case 1:
				party()
				history = append(history, events.CallUpdated.New(at, c))
			default:
				c.Status, c.Sentiment, c.Summary = "completed", new("positive"), new(fmt.Sprint("Summary ", n, c.Version))
				c.IntentCategory = new(string(lead.Intents()[1+r.IntN(5)]))
				c.IntentConfidence, c.InterestLevel, c.CallbackTime, c.Objections = nil, nil, nil, nil
				if r.IntN(2) == 0 { // a later call that finds less takes back what an earlier one found
					c.IntentConfidence, c.InterestLevel, c.CallbackTime, c.Objections = new(r.Float64()), new("high"), new(at.Add(time.Hour)), []string{fmt.Sprint("price ", n)}
				}
				c.ActionItems = []string{"Send the quote by Friday", fmt.Sprint("Call in ", 1+r.IntN(5), " days")}
				history = append(history, events.TranscriptionCompleted.New(at, c))
			}
		}
		if r.IntN(5) == 0 {
			c.Version++
			history = append(history, events.CallDeleted.New(at, c))
		}
		p.histories = append(p.histories, history, []event.Event{events.WebhookDelivered.New(at, delivery)})
	}
	return p
}

// inOrder returns all events, history after history.
func (p past) inOrder() (all []event.Event) {
	for _, history := range p.histories {
		all = append(all, history...)
	}
	return all
}

// shuffled returns all events in a random order that keeps that of each history, some of them twice.
func (p past) shuffled(r *rand.Rand) (all []event.Event) {
	var turns []int
	for i, history := range p.histories {
		for range history {
			turns = append(turns, i)
		}
	}
	r.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
	next := make([]int, len(p.histories))
	for _, i := range turns {
		e := p.histories[i][next[i]]
		next[i]++
		all = append(all, e)
		if r.IntN(4) == 0 {
			all = append(all, e)
		}
	}
	return all
}

// consume publishes events, with the inbox emptied, and waits until all have been applied.
func (a *app) consume(all []event.Event) {
	a.T.Helper()
	a.exec(`delete from inbox`)
	a.Publish(all...)
	ids := map[string]bool{}
	for _, e := range all {
		ids[e.ID] = true
	}
	a.AwaitRow(`select count(*) >= $1 from inbox`, len(ids))
}

// TestARebuildFromTheTopicsIsTheSame: what crm makes of events depends neither on the order in which partitions are read, nor on how
// often.
func TestARebuildFromTheTopicsIsTheSame(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	p := newPast(r)
	a := start(t)
	empty := func() {
		t.Helper()
		// Not truncated: that waits for a transaction that reads the same tables in another order, as the repair of the counts does.
		for _, table := range []string{"calls", "agents", "timeline", "followups", "clients", "leads", "client_merges", "import_leads", "analytics_deltas"} {
			a.exec(`delete from ` + table)
		}
		for i := range p.lead {
			a.exec(`insert into clients (id, agent_id, name, version, created_at, updated_at) values ($1, $2, 'Priya', 1, now(), now())`, p.clients[i], p.agents[i])
			a.exec(`insert into leads (id, name, phone, status, intent_category, followup_count, payment_link_sent, extra_data, call_version, version, created_at, updated_at)
				values ($1, 'Ravi', $2, 'new', 'new', 0, false, '{}', 0, 1, now(), now())`, p.lead[i], fmt.Sprint("+9198765432", 10+i))
		}
		a.exec(`insert into client_merges values ($1, $2)`, p.merged[0], p.merged[1])
	}
	empty()
	a.consume(p.inOrder())
	want := a.tables()
	require.Contains(t, strings.Join(want, "\n"), "suggested")
	for range 2 {
		a.consume(p.shuffled(r))
		require.Empty(t, cmp.Diff(want, a.tables()), "a replay from the beginning changes nothing")
		empty()
		a.consume(p.shuffled(r))
		require.Empty(t, cmp.Diff(want, a.tables()), "tables that were built anew are the same")
	}
}
