package crm_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

func TestErasureOfALead(t *testing.T) {
	t.Parallel()
	a := start(t)
	const canary, number = "Featherstonehaugh", "+919812345670"
	id := a.Do(a.Agent, "POST", "/leads", `{"name":"`+canary+`","phone":"`+number+`","email":"`+canary+`@example.com","extra_data":{"city":"`+canary+`"}}`, "Idempotency-Key", "k").Is(201).Text("id")
	call := events.Call{CallID: event.NewID(), Version: 3, AgentID: a.Agent.AgentID, LeadID: &id, CreatedAt: clock.System{}.Now()}
	a.complete(call, "Call "+canary)
	task := a.Do(a.Agent, "POST", "/followups/"+call.CallID, `{"task":"Write to `+canary+`"}`, "Idempotency-Key", "k").Is(201).Text("id")

	// An import that has failed has rows that were not read, and one that still runs has some too.
	for i, row := range []string{`'` + number + `', '{"phone":"` + number + `","name":"` + canary + `"}'`, `null, '{"lead_id":"` + id + `","name":"` + canary + `"}'`} {
		a.exec(`with i as (insert into imports (id, agent_id, team, state, dry_run, distribute, total, created, updated, merged, skipped, reverted, retained, lease_epoch, lease_attempts, lease_failures, version, created_at)
			values (gen_random_uuid(), $1, false, 'failed', false, false, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, $2, now()) returning id)
			insert into import_rows (import_id, line, phone, data) select id, 2, `+row+` from i`, a.Agent.AgentID, i)
	}
	a.exec(`insert into import_rows (import_id, line, phone, result, lead_id) select id, 3, '+919812345679', 'merged', $1 from imports where version = 0`, id)
	a.exec(`insert into import_rows (import_id, line, phone, data) select id, 4, '+919812345678', '{"phone":"+919812345678","name":"Ravi"}' from imports where version = 0`)
	require.NotEmpty(t, a.rows(canary))

	deleted := a.Do(a.Agent, "DELETE", "/leads/"+id, "").Is(204)
	path := "/erasures/" + deleted.Header.Get("Erasure-Id")
	a.Await("crm confirms", func() bool { return strings.Contains(a.Get(a.Agent, path).Is(200).Body, `"service":"crm","done_at":"`) })
	require.Equal(t, "lead", a.Get(a.Agent, path).Text("kind"))
	a.Get(a.Agent, "/followups/"+task).Fails(404, "followup_not_found")
	a.Get(a.Agent, "/leads/"+id+"/timeline").Fails(404, "lead_not_found")
	require.Equal(t, []string{"Ravi"}, pgtest.Column[string](t, a.DB, `select data->>'name' from import_rows where data->>'name' is not null`), "rows about others remain")
	require.Equal(t, []string{"+919812345678"}, pgtest.Column[string](t, a.DB, `select phone from import_rows where phone is not null`))

	// What was published before the erasure may arrive later.
	call.Version = 5
	a.complete(call, "Call "+canary)
	requested, err := events.ErasureRequested.Decode(event.Event{Data: bustest.Read(t, a.Config.Kafka.Brokers, events.ErasuresTopic, 1)[0].Value})
	require.NoError(t, err)
	require.EqualValues(t, 3, requested.Data.SubjectVersion)
	late := events.Delivery{
		DeliveryID: event.NewID(), EndpointID: event.NewID(), EventID: event.NewID(), EventType: "lead.imported", LeadID: &id, Status: "dead",
		Reason: new(canary), Attempts: 1, EndedAt: time.Now(),
	}
	a.Publish(events.WebhookDead.New(clock.System{}.Now(), late))
	for range 2 {
		for _, service := range []string{"auth", "calls", "notify"} {
			a.Publish(requested.Data.DoneBy(service, clock.System{}.Now()))
		}
		a.Publish(events.ErasureRequested.New(clock.System{}.Now(), requested.Data)) // a replay
	}
	late.DeliveryID, late.EventID, late.LeadID, late.Reason, late.CallID = event.NewID(), event.NewID(), nil, nil, new(event.NewID())
	a.Publish(events.WebhookDead.New(clock.System{}.Now(), late))
	a.AwaitRow(`select exists (select from timeline where id = $1)`, late.DeliveryID)
	a.Await("all have confirmed", func() bool { return a.Get(a.Agent, path).Is(200).Object()["completed_at"] != nil })
	a.AwaitRow(`select count(*) = 0 from outbox`)
	require.Empty(t, a.rows(canary))
	require.Empty(t, a.rows(number))

	messages := bustest.Read(t, a.Config.Kafka.Brokers, events.LeadsTopic, 4)
	require.Nil(t, messages[3].Value, "compaction removes what was published about the lead")
	require.Equal(t, id, string(messages[3].Key))
}

func TestLeadsThatAreDeletedTogetherAreErased(t *testing.T) {
	t.Parallel()
	a := start(t)
	first, second := a.lead(a.Agent, `{"name":"Priya","phone":"9876543210"}`), a.lead(a.Agent, `{"name":"Ravi","phone":"9876543211"}`)
	call := a.call(a.Agent, func(c *events.Call) { c.LeadID = &second })
	a.followUp(a.Agent, call, "2100-01-01T00:00:00Z")
	a.Do(a.Agent, "POST", "/leads/bulk", `{"lead_ids":["`+first+`","`+second+`"],"action":"delete"}`).Is(200)
	var erased []string
	for _, m := range bustest.Read(t, a.Config.Kafka.Brokers, events.ErasuresTopic, 4) { // two requests, and crm confirms
		x, err := events.ErasureRequested.Decode(event.Event{Data: m.Value})
		require.NoError(t, err)
		require.Equal(t, events.KindLead, x.Data.Kind)
		erased = append(erased, x.Data.SubjectID)
	}
	slices.Sort(erased)
	require.Equal(t, []string{first, second}, slices.Compact(erased))
	a.AwaitRow(`select not exists (select from followups)`)
	a.AwaitRow(`select not exists (select from timeline)`)
}
