package crm_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/service/servicetest"
)

// line is an item of a timeline.
type line struct {
	ID, Kind                     string
	Event, Title, Status, Reason *string
	AgentID                      *string `json:"agent_id"`
	Fields                       []string
}

func (l line) String() string {
	text := l.Kind
	for _, part := range []*string{l.Event, l.Title, l.Status} {
		if part != nil {
			text += " " + *part
		}
	}
	return strings.TrimSpace(text + " " + strings.Join(l.Fields, ","))
}

func into[T any](a *app, answer servicetest.Answer) (v T) {
	a.T.Helper()
	require.NoError(a.T, json.Unmarshal([]byte(answer.Body), &v), answer.Body)
	return v
}

// timeline returns the timeline of a client or lead, newest first, in pages of two.
func (a *app) timeline(as identity.Caller, person string) (lines []string) {
	a.T.Helper()
	for next := person + "/timeline?limit=2"; next != ""; {
		page := a.Get(as, next).Is(200)
		for _, l := range into[[]line](a, page) {
			lines = append(lines, l.String())
		}
		next = page.Next()
	}
	return lines
}

func (a *app) complete(c events.Call, items ...string) {
	a.T.Helper()
	c.Status, c.ActionItems, c.Title = "completed", items, new("Pricing")
	a.Publish(events.TranscriptionCompleted.New(clock.System{}.Now(), c))
	a.AwaitRow(`select exists (select from calls where id = $1 and version >= $2)`, c.CallID, c.Version)
}

// tasks returns the follow-ups of a call as "status task".
func (a *app) tasks(callID string) (found []string) {
	a.T.Helper()
	for _, x := range into[[]struct{ Status, Task, Source string }](a, a.Get(a.Agent, "/followups?call_id="+callID).Is(200)) {
		require.Equal(a.T, "ai", x.Source)
		found = append(found, x.Status+" "+x.Task)
	}
	return found
}

func TestMergedClientsAreOne(t *testing.T) {
	t.Parallel()
	a := start(t)
	loser := a.client(a.Agent, `{"name":"Priya S","phone":"98765 43210","company":"Acme","notes":"likes tea"}`)
	winner := a.client(a.Agent, `{"name":"Priya Sharma","email":"priya@example.com","notes":"call at noon"}`)
	callID := a.call(a.Agent, func(c *events.Call) { c.ClientID = &loser })
	task := a.followUp(a.Agent, callID, "2100-01-01T00:00:00Z")
	version := a.Get(a.Agent, "/followups/"+task).Header.Get("ETag")
	merge := func(as identity.Caller, from, into string) servicetest.Answer {
		return a.Do(as, "POST", "/clients/"+from+"/merge", `{"into":"`+into+`"}`)
	}
	require.Equal(t, []string{"into"}, merge(a.Agent, loser, loser).Wrong())
	merge(a.Agent, loser, event.NewID()).Fails(404, "client_not_found")
	merge(a.Agent, event.NewID(), winner).Fails(404, "client_not_found")
	merge(a.Other, loser, winner).Fails(403, "client_forbidden")
	foreign := a.client(a.Other, `{"name":"Foreign"}`)
	merge(a.Agent, loser, foreign).Fails(403, "client_forbidden")
	merge(a.Admin, loser, foreign).Fails(409, "different_agents")

	merged := merge(a.Agent, loser, winner).Is(200).Object()
	require.Equal(t, "Priya Sharma", merged["name"])
	require.Equal(t, "+919876543210", merged["phone"])
	require.Equal(t, "Acme", merged["company"])
	require.Equal(t, "call at noon\n\nlikes tea", merged["notes"])
	a.Get(a.Agent, "/clients/"+loser).Fails(404, "client_not_found")
	moved := a.Get(a.Agent, "/followups/"+task).Is(200)
	require.Equal(t, winner, moved.Text("client_id"))
	require.NotEqual(t, version, moved.Header.Get("ETag"))
	require.Equal(t, []string{task}, a.Get(a.Agent, "/followups?client_id="+winner).IDs())

	deleted := events.Client{}
	for _, m := range bustest.Read(t, a.Config.Kafka.Brokers, events.ClientsTopic, 5) {
		got, err := events.ClientDeleted.Decode(event.Event{Data: m.Value})
		require.NoError(t, err)
		if got.Data.MergedInto != nil {
			deleted = got.Data
		}
	}
	require.Equal(t, loser, deleted.ClientID)
	require.Equal(t, winner, *deleted.MergedInto)
	require.Empty(t, deleted.Name)

	// A late event of the loser belongs to the winner, also after the winner was merged again.
	late := a.call(a.Agent, func(c *events.Call) { c.ClientID, c.Title = &loser, new("Late") })
	last := a.client(a.Agent, `{"name":"P Sharma"}`)
	require.Contains(t, a.timeline(a.Agent, "/clients/"+winner), "call Late pending")
	merge(a.Agent, winner, last).Is(200)
	require.Equal(t, last, a.Get(a.Agent, "/followups/"+a.followUp(a.Agent, late, "2100-01-01T00:00:00Z")).Text("client_id"))
	a.call(a.Agent, func(c *events.Call) { c.ClientID, c.Title = &loser, new("Later") })
	lines := a.timeline(a.Agent, "/clients/"+last)
	require.Contains(t, lines, "call Later pending")
	require.Contains(t, lines, "call Late pending")
	require.Contains(t, lines, "change client.merged")
	require.Contains(t, lines, "change client.updated phone,company,notes")
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	a := start(t)
	clientID := a.client(a.Agent, `{"name":"Priya"}`)
	a.Do(a.Agent, "PATCH", "/clients/"+clientID, `{"phone":"9876543210"}`).Is(200)
	now := clock.System{}.Now()
	call := events.Call{CallID: event.NewID(), Version: 1, AgentID: a.Agent.AgentID, ClientID: &clientID, Status: "pending", RecordedAt: new(now.Add(time.Hour)), CreatedAt: now}
	a.Publish(events.CallUploaded.New(now, call))
	a.AwaitRow(`select exists (select from calls where id = $1)`, call.CallID)
	call.Version = 3
	a.complete(call)
	task := a.Do(a.Agent, "POST", "/followups/"+call.CallID, `{"task":"Send the quote"}`).Is(201).Text("id")
	a.Do(a.Agent, "PATCH", "/followups/"+task+"/complete", "").Is(200)
	delivery := events.Delivery{
		DeliveryID: event.NewID(), EndpointID: event.NewID(), EventID: event.NewID(), EventType: "transcription.completed", CallID: &call.CallID, ClientID: &clientID,
		Status: "delivered", Attempts: 1, EndedAt: now.Add(2 * time.Hour),
	}
	about := delivery
	about.DeliveryID, about.EventID, about.EventType, about.FollowUpID, about.EndedAt = event.NewID(), event.NewID(), "followup.scheduled", &task, now.Add(3*time.Hour)
	dead := delivery
	dead.DeliveryID, dead.EventID, dead.Status, dead.Reason, dead.EndedAt = event.NewID(), event.NewID(), "dead", new("status_500"), now.Add(4*time.Hour)
	for range 2 { // a replay changes nothing
		a.Publish(events.WebhookDelivered.New(now, delivery), events.WebhookDelivered.New(now, about), events.WebhookDead.New(now, dead))
	}
	a.AwaitRow(`select count(*) = 3 from timeline where kind = 'delivery'`)
	require.Equal(t, []string{
		"delivery transcription.completed dead", "delivery followup.scheduled delivered", "delivery transcription.completed delivered", "call Pricing completed",
		"followup Send the quote completed", "change client.updated phone", "change client.created",
	}, a.timeline(a.Agent, "/clients/"+clientID))
	require.Equal(t, true, a.Get(a.Agent, "/followups/"+task).Object()["pabbly_triggered"])
	require.Equal(t, a.Agent.AgentID, into[[]map[string]any](a, a.Get(a.Admin, "/clients/"+clientID+"/timeline"))[6]["agent_id"], "who made the change")

	a.Get(a.Other, "/clients/"+clientID+"/timeline").Fails(403, "client_forbidden")
	a.Get(a.Agent, "/clients/"+event.NewID()+"/timeline").Fails(404, "client_not_found")

	// A call that gets another client takes its deliveries with it.
	other := a.client(a.Agent, `{"name":"Ravi"}`)
	call.Version, call.ClientID = 4, &other
	a.Publish(events.CallUpdated.New(now, call))
	a.AwaitRow(`select exists (select from calls where id = $1 and version = 4)`, call.CallID)
	require.Len(t, a.timeline(a.Agent, "/clients/"+other), 4)
	require.Len(t, a.timeline(a.Agent, "/clients/"+clientID), 4)
}

func TestActionItemsBecomeSuggestions(t *testing.T) {
	t.Parallel()
	a := start(t)
	said := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC) // a Tuesday
	clientID := a.client(a.Agent, `{"name":"Priya"}`)
	call := events.Call{CallID: event.NewID(), Version: 3, AgentID: a.Agent.AgentID, ClientID: &clientID, RecordedAt: &said, CreatedAt: said}
	a.complete(call, "Send the quote by Friday", "Ask the boss", " ", "Call back tomorrow at 5 pm")
	got := into[[]struct {
		ID, Task, Status string
		Client           string    `json:"client_id"`
		Due              time.Time `json:"due_date"`
	}](a, a.Get(a.Agent, "/followups?status=suggested").Is(200))
	require.Len(t, got, 3)
	require.Equal(t, []string{"Call back tomorrow at 5 pm", "Ask the boss", "Send the quote by Friday"}, []string{got[0].Task, got[1].Task, got[2].Task})
	require.Equal(t, clientID, got[0].Client)
	for i, due := range []string{"2026-11-25T11:30:00Z", "2026-11-26T03:30:00Z", "2026-11-27T03:30:00Z"} { // in India
		require.Equal(t, due, got[i].Due.Format(time.RFC3339), got[i].Task)
	}
	require.Empty(t, pgtest.Column[string](t, a.DB, `select type from outbox where topic = $1`, events.FollowUpsTopic), "no event is published about a suggestion")

	// Only accepting one schedules it.
	require.Equal(t, "pending", a.Do(a.Agent, "PATCH", "/followups/"+got[1].ID, `{"status":"pending","due_date":"2100-01-01T00:00:00Z"}`).Is(200).Text("status"))
	require.Equal(t, "dismissed", a.Do(a.Agent, "PATCH", "/followups/"+got[0].ID, `{"status":"dismissed"}`).Is(200).Text("status"))
	require.Equal(t, map[string][]string{got[1].ID: {"followup.scheduled 2"}}, a.Published(events.FollowUpsTopic, 1))
	require.ElementsMatch(t, []string{got[1].ID, got[2].ID}, a.Get(a.Agent, "/followups?completed=false").IDs(), "what is still to be done")

	// A replay changes nothing.
	a.complete(call, "Send the quote by Friday", "Ask the boss", " ", "Call back tomorrow at 5 pm")
	barrier := call
	barrier.CallID = event.NewID()
	a.complete(barrier)
	want := []string{"dismissed Call back tomorrow at 5 pm", "suggested Send the quote by Friday", "pending Ask the boss"}
	require.Equal(t, want, a.tasks(call.CallID))

	// Another completion replaces what nobody has touched, and does not suggest again what somebody has.
	call.Version = 6
	a.complete(call, "ask the boss", "Send a contract")
	require.Equal(t, []string{"dismissed Call back tomorrow at 5 pm", "suggested Send a contract", "pending Ask the boss"}, a.tasks(call.CallID))

	a.Publish(events.CallDeleted.New(said, events.Call{CallID: call.CallID, Version: 7, AgentID: call.AgentID}))
	a.AwaitRow(`select deleted from calls where id = $1`, call.CallID)
	require.Equal(t, []string{"dismissed Call back tomorrow at 5 pm", "pending Ask the boss"}, a.tasks(call.CallID))
}

func TestSuggestionsAreDueInTheWorkingHoursOfTheTeam(t *testing.T) {
	t.Parallel()
	a := start(t)
	a.Do(a.Admin, "PUT", "/settings/time_zone", `{"value":"America/New_York"}`).Is(200)
	a.Do(a.Admin, "PUT", "/settings/working_hours", `{"value":{"wednesday":{"start":"10:30","end":"16:00"},"saturday":{"start":"08:00","end":"12:00"}}}`).Is(200)
	said := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC) // a Tuesday
	call := events.Call{CallID: event.NewID(), Version: 3, AgentID: a.Agent.AgentID, RecordedAt: &said, CreatedAt: said}
	a.complete(call, "Send the quote tomorrow", "Ask the boss", "Finish by the end of the week")
	due := map[string]string{}
	for _, x := range into[[]struct {
		Task string
		Due  time.Time `json:"due_date"`
	}](a, a.Get(a.Agent, "/followups?status=suggested").Is(200)) {
		due[x.Task] = x.Due.Format(time.RFC3339)
	}
	require.Equal(t, map[string]string{
		"Send the quote tomorrow": "2026-11-25T15:30:00Z", "Ask the boss": "2026-11-28T13:00:00Z", "Finish by the end of the week": "2026-11-28T17:00:00Z",
	}, due)
	calendar := a.Get(identity.Caller{}, a.Do(a.Agent, "POST", "/followups.ics/token", "").Is(201).Text("path")).Is(200)
	require.Contains(t, calendar.Body, "X-WR-TIMEZONE:America/New_York\r\n")
}

func TestReopenAndDismiss(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.followUp(a.Agent, a.call(a.Agent), "2100-01-01T00:00:00Z")
	patch := func(status string) servicetest.Answer {
		return a.Do(a.Agent, "PATCH", "/followups/"+id, `{"status":"`+status+`"}`)
	}
	require.NotNil(t, patch("completed").Is(200).Object()["completed_at"])
	require.Nil(t, patch("pending").Is(200).Object()["completed_at"])
	patch("dismissed").Is(200)
	require.Equal(t, []string{"status"}, patch("suggested").Wrong())
	require.Equal(t, []string{"followup.scheduled 1", "followup.completed 2", "followup.updated 3", "followup.updated 4"}, a.Published(events.FollowUpsTopic, 4)[id])
	require.Nil(t, a.Do(a.Agent, "PATCH", "/followups/"+id, `{"due_date":null}`).Is(200).Object()["due_date"], "null clears")
	second := a.followUp(a.Agent, a.call(a.Agent), "2100-01-01T00:00:00Z")
	require.Equal(t, []string{second, id}, a.Get(a.Agent, "/followups").IDs(), "without a date it is last")
	next := a.Get(a.Agent, "/followups?limit=1")
	require.Equal(t, []string{id}, a.Get(a.Agent, next.Next()).IDs())
}

func TestAFollowUpIsDueOncePerDate(t *testing.T) {
	t.Parallel()
	a := start(t)
	callID := a.call(a.Agent)
	id := a.followUp(a.Agent, callID, "2001-01-01T00:00:00Z")
	later := a.followUp(a.Agent, callID, "2100-01-01T00:00:00Z")
	done := a.followUp(a.Agent, callID, "2100-01-01T00:00:00Z")
	a.Do(a.Agent, "PATCH", "/followups/"+done, `{"due_date":"2001-01-01T00:00:00Z","status":"completed"}`).Is(200)
	a.AwaitRow(`select reminded from followups where id = $1`, id)
	a.Do(a.Agent, "PATCH", "/followups/"+id, `{"notes":"the same date"}`).Is(200)
	a.Do(a.Agent, "PATCH", "/followups/"+id, `{"due_date":"2001-01-02T00:00:00Z"}`).Is(200)
	a.AwaitRow(`select reminded from followups where id = $1`, id)
	got := a.Published(events.FollowUpsTopic, 8)
	require.Equal(t, []string{"followup.scheduled 1", "followup.due 2", "followup.updated 3", "followup.updated 4", "followup.due 5"}, got[id])
	require.Len(t, got[later], 1)
	require.Len(t, got[done], 2)
}

func TestCalendar(t *testing.T) {
	t.Parallel()
	a := start(t)
	callID := a.call(a.Agent)
	a.Do(a.Agent, "POST", "/followups", `{"call_id":"`+callID+`","due_date":"2100-01-01T09:00:00Z","task":"Quote; with, tax","notes":"`+strings.Repeat("é", 60)+`"}`).Is(201)
	a.Do(a.Agent, "POST", "/followups/"+callID, `{"task":"No date"}`).Is(201)
	a.followUp(a.Other, a.call(a.Other), "2100-01-02T00:00:00Z")
	a.Do(identity.Caller{}, "POST", "/followups.ics/token", "").Fails(401, "not_authenticated")
	first := a.Do(a.Agent, "POST", "/followups.ics/token", "").Is(201)
	require.Empty(t, pgtest.Column[string](t, a.DB, `select encode(hash, 'escape') from calendar_tokens where encode(hash, 'escape') like '%' || $1 || '%'`, first.Text("token")))

	calendar := a.Get(identity.Caller{}, first.Text("path")).Is(200)
	require.Equal(t, "text/calendar; charset=utf-8", calendar.Header.Get("Content-Type"))
	require.Equal(t, 1, strings.Count(calendar.Body, "BEGIN:VEVENT\r\n"), calendar.Body)
	require.Contains(t, calendar.Body, "DTSTART:21000101T090000Z\r\n")
	require.Contains(t, calendar.Body, `SUMMARY:Quote\; with\, tax`+"\r\n")
	for line := range strings.SplitSeq(calendar.Body, "\r\n") {
		require.LessOrEqual(t, len(line), 75)
	}

	second := a.Do(a.Agent, "POST", "/followups.ics/token", "").Is(201)
	a.Get(identity.Caller{}, first.Text("path")).Fails(404, "calendar_not_found")
	a.Get(identity.Caller{}, second.Text("path")).Is(200)
	a.Publish(events.AgentDeactivated.New(clock.System{}.Now(), events.Agent{AgentID: a.Agent.AgentID, Version: 2}))
	a.AwaitRow(`select exists (select from agents where id = $1 and not active)`, a.Agent.AgentID)
	a.Get(identity.Caller{}, second.Text("path")).Fails(404, "calendar_not_found")
	a.Publish(events.AgentUpdated.New(clock.System{}.Now(), events.Agent{AgentID: a.Agent.AgentID, Version: 3, IsActive: true}))
	a.AwaitRow(`select active from agents where id = $1`, a.Agent.AgentID)
	a.Get(identity.Caller{}, second.Text("path")).Is(200)
	a.Do(a.Agent, "DELETE", "/followups.ics/token", "").Is(204)
	a.Do(a.Agent, "DELETE", "/followups.ics/token", "").Is(204)
	a.Get(identity.Caller{}, second.Text("path")).Fails(404, "calendar_not_found")
	require.NotContains(t, a.Log.String(), second.Text("token"), "the token is not logged")
}

// rows returns every row of every table of the service that contains a text.
func (a *app) rows(text string) (found []string) {
	a.T.Helper()
	for _, table := range pgtest.Column[string](a.T, a.DB, `select table_name::text from information_schema.tables where table_schema = current_schema()`) {
		found = append(found, pgtest.Column[string](a.T, a.DB, fmt.Sprintf(`select '%s: ' || t::text from %q t where t::text ilike '%%' || $1 || '%%'`, table, table), text)...)
	}
	return found
}

func TestErasureOfAClient(t *testing.T) {
	t.Parallel()
	a := start(t)
	const canary = "Featherstonehaugh"
	clientID := a.Do(a.Agent, "POST", "/clients", `{"name":"`+canary+`","email":"`+canary+`@example.com","notes":"`+canary+`"}`, "Idempotency-Key", "k").Is(201).Text("id")
	call := events.Call{CallID: event.NewID(), Version: 3, AgentID: a.Agent.AgentID, ClientID: &clientID, CreatedAt: clock.System{}.Now()}
	a.complete(call, "Call "+canary)
	a.Do(a.Agent, "POST", "/followups/"+call.CallID, `{"task":"Write to `+canary+`"}`, "Idempotency-Key", "k").Is(201)
	a.Do(a.Agent, "PATCH", "/clients/"+clientID, `{"company":"`+canary+`"}`).Is(200)
	require.NotEmpty(t, a.rows(canary))

	deleted := a.Do(a.Agent, "DELETE", "/clients/"+clientID, "").Is(204)
	path := "/erasures/" + deleted.Header.Get("Erasure-Id")
	a.Get(a.Other, path).Fails(403, "erasure_forbidden")
	a.Get(a.Agent, "/erasures/"+event.NewID()).Fails(404, "erasure_not_found")
	a.Await("crm confirms", func() bool { return strings.Contains(a.Get(a.Agent, path).Is(200).Body, `"service":"crm","done_at":"`) })
	require.Nil(t, a.Get(a.Admin, path).Object()["completed_at"])
	for range 2 {
		a.Publish(events.Erasure{ErasureID: deleted.Header.Get("Erasure-Id")}.WaitsIn("calls", "legal_hold", clock.System{}.Now()))
	}
	a.Await("why calls waits", func() bool {
		return strings.Contains(a.Get(a.Agent, path).Body, `{"service":"calls","done_at":null,"waiting_for":"legal_hold"}`)
	})

	// What was published before the erasure may arrive later.
	call.Version = 5
	a.complete(call, "Call "+canary)
	requested, err := events.ErasureRequested.Decode(event.Event{Data: bustest.Read(t, a.Config.Kafka.Brokers, events.ErasuresTopic, 1)[0].Value})
	require.NoError(t, err)
	for range 2 {
		for _, service := range []string{"auth", "calls", "notify"} {
			a.Publish(requested.Data.DoneBy(service, clock.System{}.Now()))
		}
		a.Publish(events.ErasureRequested.New(clock.System{}.Now(), requested.Data)) // a replay
	}
	a.Await("all have confirmed", func() bool { return a.Get(a.Agent, path).Is(200).Object()["completed_at"] != nil })
	require.NotContains(t, a.Get(a.Agent, path).Body, "legal_hold")
	a.AwaitRow(`select count(*) = 0 from outbox`)
	require.Empty(t, a.rows(canary))

	messages := bustest.Read(t, a.Config.Kafka.Brokers, events.ClientsTopic, 4)
	require.Nil(t, messages[3].Value, "compaction removes what was published about the client")
	require.Equal(t, clientID, string(messages[3].Key))
	a.Do(a.Agent, "DELETE", "/clients/"+clientID, "").Fails(http.StatusNotFound, "client_not_found")
}

func TestErasureOfAnAgent(t *testing.T) {
	t.Parallel()
	a := start(t)
	const canary = "Featherstonehaugh"
	agentID := a.Other.AgentID
	a.Publish(events.AgentRegistered.New(clock.System{}.Now(), events.Agent{AgentID: agentID, Version: 1, Email: canary + "@example.com", FullName: canary, IsActive: true}))
	a.AwaitRow(`select exists (select from agents where id = $1)`, agentID)
	calendar := a.Do(a.Other, "POST", "/followups.ics/token", "").Is(201).Text("path")
	request := events.Erasure{ErasureID: event.NewID(), Kind: events.KindAgent, SubjectID: agentID, SubjectVersion: 3, RequestedBy: a.Admin.AgentID, RequestedAt: clock.System{}.Now()}
	a.Publish(request.DoneBy("notify", clock.System{}.Now()), events.ErasureRequested.New(clock.System{}.Now(), request))
	a.Await("the request has arrived", func() bool { return a.Get(a.Admin, "/erasures/"+request.ErasureID).Status == http.StatusOK })
	a.Publish(events.AgentUpdated.New(clock.System{}.Now(), events.Agent{AgentID: agentID, Version: 2, Email: canary + "@example.com", FullName: canary, IsActive: true}))
	barrier := event.NewID()
	a.Publish(events.AgentRegistered.New(clock.System{}.Now(), events.Agent{AgentID: agentID, Version: 2, FullName: canary}), events.AgentRegistered.New(clock.System{}.Now(), events.Agent{AgentID: barrier, Version: 1}))
	a.AwaitRow(`select exists (select from agents where id = $1)`, barrier)
	a.AwaitRow(`select count(*) = 0 from outbox`)
	require.Empty(t, a.rows(canary))
	require.Contains(t, a.Get(a.Admin, "/erasures/"+request.ErasureID).Body, `"service":"notify","done_at":"`, "a confirmation that came before its request counts")
	a.Get(identity.Caller{}, calendar).Fails(404, "calendar_not_found")
}
