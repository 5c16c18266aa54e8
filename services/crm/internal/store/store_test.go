package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/client"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

type stores struct {
	db        *pg.DB
	clients   client.Store
	followups followup.Store
	calls     copies.Store[followup.Call]
	agents    copies.Store[agent.Agent]
}

func open(t *testing.T) stores {
	t.Helper()
	db := pgtest.Open(t, outbox.Migrations(), idempotency.Migrations(), store.Migrations())
	out := outbox.New(db, telemetry.Nop())
	return stores{db, store.Clients(db, out), store.FollowUps(db, out), store.Calls(db), store.Agents(db)}
}

// published returns the types in the outbox, oldest first.
func (s stores) published(t *testing.T) []string {
	t.Helper()
	return pgtest.Column[string](t, s.db, `select type from outbox order by id`)
}

func at(second int) time.Time { return time.Date(2026, 11, 24, 9, 0, second, 1000, time.UTC) }

func newClient(agentID, name string, edits ...func(*client.Client)) client.Client {
	c := client.Client{ID: event.NewID(), AgentID: agentID, Fields: client.Fields{Name: name}, Version: 1, CreatedAt: at(0), UpdatedAt: at(0)}
	for _, edit := range edits {
		edit(&c)
	}
	return c
}

func withPhone(phone string) func(*client.Client) {
	return func(c *client.Client) { c.Phone = &phone }
}

func withEmail(email string) func(*client.Client) {
	return func(c *client.Client) { c.Email = &email }
}

func created(c client.Client) event.Event {
	return events.ClientCreated.New(at(0), events.Client{ClientID: c.ID})
}

func existing(t *testing.T, err error) any {
	t.Helper()
	f := fault.Of(err)
	require.Equal(t, "client_exists", f.Code, "%v", err)
	return f.Extra["client_id"]
}

func TestAllFieldsOfAClientAreStored(t *testing.T) {
	t.Parallel()
	s := open(t)
	c := newClient(event.NewID(), "Priya", withPhone("+919876543210"), withEmail("Priya@Example.com"))
	c.Company, c.Notes = new("Acme"), new("likes tea")
	require.NoError(t, s.clients.Create(t.Context(), c, created(c)))
	got, err := s.clients.Find(t.Context(), c.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(c, got))
	require.Equal(t, time.UTC, got.CreatedAt.Location())
	require.Equal(t, []string{"client.created"}, s.published(t))

	_, err = s.clients.Find(t.Context(), event.NewID())
	require.Equal(t, "client_not_found", fault.Of(err).Code)
}

func TestSamePersonTwice(t *testing.T) {
	t.Parallel()
	s, agentID := open(t), event.NewID()
	first := newClient(agentID, "Priya", withPhone("+919876543210"), withEmail("Priya@Example.com"))
	require.NoError(t, s.clients.Create(t.Context(), first, created(first)))

	for name, again := range map[string]client.Client{
		"phone":                       newClient(agentID, "P", withPhone("+919876543210")),
		"e-mail, in any case":         newClient(agentID, "P", withEmail("pRIYA@example.com")),
		"both, the phone is new":      newClient(agentID, "P", withEmail("priya@example.com"), withPhone("+16502530000")),
		"both, the e-mail is another": newClient(agentID, "P", withEmail("other@example.com"), withPhone("+919876543210")),
	} {
		require.Equal(t, first.ID, existing(t, s.clients.Create(t.Context(), again, created(again))), name)
	}
	require.Equal(t, []string{"client.created"}, s.published(t), "what was refused has no event")

	elsewhere := newClient(event.NewID(), "P", withPhone("+919876543210"), withEmail("priya@example.com"))
	require.NoError(t, s.clients.Create(t.Context(), elsewhere), "another agent may know the same person")
	require.NoError(t, s.clients.Create(t.Context(), newClient(agentID, "nameless")))
	require.NoError(t, s.clients.Create(t.Context(), newClient(agentID, "nameless too")), "none is not the same")
}

func TestSamePersonTwiceByChange(t *testing.T) {
	t.Parallel()
	s, agentID := open(t), event.NewID()
	first, second := newClient(agentID, "A", withPhone("+919876543210")), newClient(agentID, "B", withEmail("b@example.com"))
	require.NoError(t, s.clients.Create(t.Context(), first))
	require.NoError(t, s.clients.Create(t.Context(), second))
	_, err := s.clients.Change(t.Context(), second.ID, func(c *client.Client) ([]event.Event, error) {
		c.Phone = first.Phone
		return []event.Event{created(*c)}, nil
	})
	require.Equal(t, first.ID, existing(t, err))
	require.Empty(t, s.published(t))
	got, err := s.clients.Find(t.Context(), second.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(second, got))
}

func TestSamePersonAtTheSameTime(t *testing.T) {
	t.Parallel()
	s, agentID := open(t), event.NewID()
	const writers = 16
	results := make([]error, writers)
	var g errgroup.Group
	ids := make([]string, writers)
	for i := range writers {
		c := newClient(agentID, "Priya", withPhone("+919876543210"), withEmail(fmt.Sprintf("p%d@example.com", i)))
		ids[i] = c.ID
		g.Go(func() error {
			results[i] = s.clients.Create(t.Context(), c, created(c))
			return nil
		})
	}
	require.NoError(t, g.Wait())
	var winner string
	for i, err := range results {
		if err == nil {
			require.Empty(t, winner, "two were saved")
			winner = ids[i]
		}
	}
	require.NotEmpty(t, winner)
	for _, err := range results {
		if err != nil {
			require.Equal(t, winner, existing(t, err))
		}
	}
	require.Len(t, s.published(t), 1)
}

func TestChangesOfOneClientWaitForEachOther(t *testing.T) {
	t.Parallel()
	s := open(t)
	c := newClient(event.NewID(), "Priya")
	require.NoError(t, s.clients.Create(t.Context(), c))
	const writers = 12
	var g errgroup.Group
	for range writers {
		g.Go(func() error {
			_, err := s.clients.Change(t.Context(), c.ID, func(c *client.Client) ([]event.Event, error) {
				c.Version++
				return []event.Event{events.ClientUpdated.New(at(0), events.Client{ClientID: c.ID, Version: c.Version})}, nil
			})
			return err
		})
	}
	require.NoError(t, g.Wait())
	rows, err := s.db.Conn(t.Context()).Query(t.Context(), `select data from outbox order by id`)
	require.NoError(t, err)
	defer rows.Close()
	for version := int64(2); rows.Next(); version++ {
		var data []byte
		require.NoError(t, rows.Scan(&data))
		var state events.Client
		require.NoError(t, json.Unmarshal(data, &state))
		require.Equal(t, version, state.Version, "events are in the order of the versions")
	}
	got, err := s.clients.Find(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, int64(1+writers), got.Version)
}

func TestARefusedChangeChangesNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	c := newClient(event.NewID(), "Priya")
	require.NoError(t, s.clients.Create(t.Context(), c))
	refuse := func(c *client.Client) ([]event.Event, error) {
		c.Name = "changed"
		return nil, client.NotFound()
	}
	_, err := s.clients.Change(t.Context(), c.ID, refuse)
	require.True(t, fault.Is(err, fault.NotFound))
	require.True(t, fault.Is(s.clients.Remove(t.Context(), c.ID, refuse), fault.NotFound))
	got, err := s.clients.Find(t.Context(), c.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(c, got))
	require.Empty(t, s.published(t))
}

// pages reads all pages of a list by its cursors.
func pages[T any](t *testing.T, list func(cursor string) ([]T, string, error), id func(T) string) []string {
	t.Helper()
	var ids []string
	for cursor := ""; ; {
		items, next, err := list(cursor)
		require.NoError(t, err)
		for _, item := range items {
			ids = append(ids, id(item))
		}
		require.Less(t, len(ids), 100, "the pages do not end")
		if cursor = next; cursor == "" {
			return ids
		}
	}
}

func TestClientPagesWithEqualTimes(t *testing.T) {
	t.Parallel()
	s, agentID := open(t), event.NewID()
	var want []string
	for i := range 10 {
		c := newClient(agentID, fmt.Sprint(i))
		c.CreatedAt = at(i / 5) // only two different times
		require.NoError(t, s.clients.Create(t.Context(), c))
		want = append([]string{c.ID}, want...)
	}
	require.NoError(t, s.clients.Create(t.Context(), newClient(event.NewID(), "another agent's")))
	for _, limit := range []int{1, 3, 5, 10, 11} {
		got := pages(t, func(cursor string) ([]client.Client, string, error) {
			p, err := s.clients.List(t.Context(), client.Filter{AgentID: agentID, Request: page.Request{Limit: limit, Cursor: cursor}})
			return p.Items, p.Next, err
		}, func(c client.Client) string { return c.ID })
		require.Equal(t, want, got, "limit %d", limit)
	}
	p, err := s.clients.List(t.Context(), client.Filter{AgentID: agentID, Request: page.Request{Limit: 3, Skip: 8}})
	require.NoError(t, err)
	require.Len(t, p.Items, 2)
	require.Empty(t, p.Next)
	p, err = s.clients.List(t.Context(), client.Filter{Request: page.Request{Limit: 50}})
	require.NoError(t, err)
	require.Len(t, p.Items, 11, "of all agents")

	_, err = s.clients.List(t.Context(), client.Filter{Request: page.Request{Limit: 3, Cursor: "nonsense"}})
	require.True(t, fault.Is(err, fault.Invalid))
}

func TestClientSearch(t *testing.T) {
	t.Parallel()
	s, agentID := open(t), event.NewID()
	c := newClient(agentID, "Priya 100% Sharma", withPhone("+919876543210"), withEmail("p_s@example.com"))
	c.Company = new(`back\slash Ltd`)
	require.NoError(t, s.clients.Create(t.Context(), c))
	require.NoError(t, s.clients.Create(t.Context(), newClient(agentID, "Somebody else")))
	for q, want := range map[string]int{"": 2, "pRIYA": 1, "98765": 1, "098765": 1, "98 76-5": 1, "p_s@": 1, "00%": 1, "p_s": 1, `k\s`: 1, "Ltd": 1, "PR": 1, "s": 1, "ya": 0, "p%": 0, "p_": 0, `p\`: 0, "Priya%Sharma": 0, "nobody": 0} {
		p, err := s.clients.List(t.Context(), client.Filter{AgentID: agentID, Q: q, Request: page.Request{Limit: 50}})
		require.NoError(t, err)
		require.Len(t, p.Items, want, "%q", q)
	}
}

func newFollowUp(agentID string, edits ...func(*followup.FollowUp)) followup.FollowUp {
	x := followup.FollowUp{
		ID: event.NewID(), CallID: event.NewID(), AgentID: agentID, DueDate: new(at(10)), Status: followup.Pending, Source: followup.ByAgent,
		Version: 1, CreatedAt: at(0), UpdatedAt: at(0),
	}
	for _, edit := range edits {
		edit(&x)
	}
	return x
}

func nothing(*followup.FollowUp) []event.Event { return nil }

func scheduled(x *followup.FollowUp) []event.Event {
	return []event.Event{events.FollowUpScheduled.New(at(0), events.FollowUp{FollowUpID: x.ID})}
}

func TestFollowUpIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	s := open(t)
	c := newClient(event.NewID(), "Priya")
	require.NoError(t, s.clients.Create(t.Context(), c))
	l := leadStore{store.Leads(s.db, outbox.New(s.db, telemetry.Nop())), s.db}.add(t)
	x := newFollowUp(c.AgentID, func(x *followup.FollowUp) {
		x.ClientID, x.LeadID, x.Task, x.Notes = &c.ID, &l.ID, new("Send the quote"), new("by phone")
		x.Status, x.CompletedAt = followup.Completed, new(at(5))
	})
	saved, err := s.followups.Create(t.Context(), x, scheduled)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(x, saved))
	got, err := s.followups.Find(t.Context(), x.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(x, got))
	require.Equal(t, []string{"lead.imported", "followup.scheduled"}, s.published(t))

	require.NoError(t, s.followups.Remove(t.Context(), x.ID, func(x *followup.FollowUp) ([]event.Event, error) { return scheduled(x), nil }))
	_, err = s.followups.Find(t.Context(), x.ID)
	require.Equal(t, "followup_not_found", fault.Of(err).Code)
}

func TestAClientTakesItsFollowUpsWithIt(t *testing.T) {
	t.Parallel()
	s := open(t)
	c := newClient(event.NewID(), "Priya")
	require.NoError(t, s.clients.Create(t.Context(), c))
	x, err := s.followups.Create(t.Context(), newFollowUp(c.AgentID, func(x *followup.FollowUp) { x.ClientID, x.Announced = &c.ID, true }), nothing)
	require.NoError(t, err)
	require.NoError(t, s.clients.Remove(t.Context(), c.ID, func(c *client.Client) ([]event.Event, error) { return []event.Event{created(*c)}, nil }))
	_, err = s.followups.Find(t.Context(), x.ID)
	require.Equal(t, "followup_not_found", fault.Of(err).Code)
	require.Equal(t, []string{"followup.deleted"}, pgtest.Column[string](t, s.db, `select type from outbox where key = $1`, x.ID))
	require.Empty(t, pgtest.Column[string](t, s.db, `select id::text from timeline`))

	late, err := s.followups.Create(t.Context(), newFollowUp(c.AgentID, func(x *followup.FollowUp) { x.ClientID = &c.ID }), func(x *followup.FollowUp) []event.Event {
		require.Nil(t, x.ClientID, "the event too knows that the client is gone")
		return nil
	})
	require.NoError(t, err)
	require.Nil(t, late.ClientID)
}

func TestFollowUpPagesWithEqualDates(t *testing.T) {
	t.Parallel()
	s, agentID := open(t), event.NewID()
	var want []string
	for i := range 10 {
		x, err := s.followups.Create(t.Context(), newFollowUp(agentID, func(x *followup.FollowUp) { x.DueDate = new(at(i / 5)) }), nothing)
		require.NoError(t, err)
		want = append(want, x.ID)
	}
	for _, limit := range []int{1, 3, 5, 10, 11} {
		got := pages(t, func(cursor string) ([]followup.FollowUp, string, error) {
			p, err := s.followups.List(t.Context(), followup.Filter{AgentID: agentID, ListRequest: followup.ListRequest{Request: page.Request{Limit: limit, Cursor: cursor}}})
			return p.Items, p.Next, err
		}, func(x followup.FollowUp) string { return x.ID })
		require.Equal(t, want, got, "limit %d", limit)
	}
}

func TestFollowUpFilters(t *testing.T) {
	t.Parallel()
	s, agentID := open(t), event.NewID()
	c := newClient(agentID, "Priya")
	require.NoError(t, s.clients.Create(t.Context(), c))
	save := func(edits ...func(*followup.FollowUp)) followup.FollowUp {
		x, err := s.followups.Create(t.Context(), newFollowUp(agentID, edits...), nothing)
		require.NoError(t, err)
		return x
	}
	late := save(func(x *followup.FollowUp) { x.DueDate = new(at(10)) })
	done := save(func(x *followup.FollowUp) {
		x.DueDate, x.Status, x.CompletedAt = new(at(20)), followup.Completed, new(at(15))
	})
	soon := save(func(x *followup.FollowUp) { x.DueDate, x.ClientID = new(at(40)), &c.ID })
	foreign := newFollowUp(event.NewID(), func(x *followup.FollowUp) { x.DueDate = new(at(50)) })
	_, err := s.followups.Create(t.Context(), foreign, nothing)
	require.NoError(t, err)

	type request = followup.ListRequest
	for name, tt := range map[string]struct {
		request request
		want    []string
	}{
		"all of an agent":    {request{}, []string{late.ID, done.ID, soon.ID}},
		"completed":          {request{Completed: new(true)}, []string{done.ID}},
		"not completed":      {request{Completed: new(false)}, []string{late.ID, soon.ID}},
		"of a call":          {request{CallID: soon.CallID}, []string{soon.ID}},
		"of a client":        {request{ClientID: c.ID}, []string{soon.ID}},
		"before, exclusive":  {request{DueBefore: new(at(20))}, []string{late.ID}},
		"after, inclusive":   {request{DueAfter: new(at(20))}, []string{done.ID, soon.ID}},
		"between":            {request{DueAfter: new(at(20)), DueBefore: new(at(40))}, []string{done.ID}},
		"overdue":            {request{Overdue: new(true)}, []string{late.ID}},
		"not overdue":        {request{Overdue: new(false)}, []string{done.ID, soon.ID}},
		"overdue and a call": {request{Overdue: new(true), CallID: soon.CallID}, nil},
		"everybody's":        {request{Request: page.Request{Skip: 2}}, []string{soon.ID, foreign.ID}},
	} {
		f := followup.Filter{AgentID: agentID, Now: at(30), ListRequest: tt.request}
		if f.Limit = 50; name == "everybody's" {
			f.AgentID = ""
		}
		p, err := s.followups.List(t.Context(), f)
		require.NoError(t, err, name)
		var got []string
		for _, x := range p.Items {
			got = append(got, x.ID)
		}
		require.Equal(t, tt.want, got, name)
	}
}

// TestOnePassRemindsOfAllThatIsDue: the passes are seconds apart, and a team may put a day's work on one moment.
func TestOnePassRemindsOfAllThatIsDue(t *testing.T) {
	t.Parallel()
	s := open(t)
	const n = 1000
	_, err := s.db.Pool().Exec(t.Context(), `
		insert into followups (id, call_id, agent_id, due_date, announced, reminded, pabbly_triggered, status, source, version, created_at, updated_at)
		select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '2026-01-01', true, false, false, 'pending', 'agent', 1, now(), now() from generate_series(1, $1)`, n)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, s.followups.ChangeDue(t.Context(), func(x *followup.FollowUp) []event.Event {
			x.Reminded = true
			return []event.Event{events.FollowUpDue.New(at(0), events.FollowUp{FollowUpID: x.ID})}
		}))
		require.Len(t, s.published(t), n)
	}
}

func TestCopiesOfCallsOnlyGrowNewer(t *testing.T) {
	t.Parallel()
	s := open(t)
	call := followup.Call{ID: event.NewID(), AgentID: event.NewID(), ClientID: new(event.NewID()), LeadID: new(event.NewID()), Status: "pending"}
	_, ok, err := s.calls.Find(t.Context(), call.ID)
	require.NoError(t, err)
	require.False(t, ok)

	upsert := func(version int64, status string, deleted bool) followup.Call {
		c := call
		c.Version, c.Status, c.Deleted = version, status, deleted
		require.NoError(t, s.calls.Upsert(t.Context(), c))
		got, ok, err := s.calls.Find(t.Context(), call.ID)
		require.NoError(t, err)
		require.True(t, ok)
		return got
	}
	require.Equal(t, "remote", upsert(0, "remote", false).Status)
	require.Equal(t, "remote", upsert(0, "remote again", false).Status, "the first response is not replaced")
	require.Equal(t, "pending", upsert(1, "pending", false).Status, "the first event replaces an answer")
	require.Equal(t, "completed", upsert(3, "completed", false).Status)
	require.Equal(t, "completed", upsert(2, "transcribing", false).Status, "an older one came late")
	require.Equal(t, "completed", upsert(3, "failed", false).Status, "the same one came twice")
	require.True(t, upsert(4, "completed", true).Deleted)
	require.True(t, upsert(0, "remote", false).Deleted, "an answer brings nothing back")
	got := upsert(5, "completed", true)
	require.Equal(t, call.ClientID, got.ClientID)
	require.Equal(t, call.LeadID, got.LeadID)
}

func TestCopiesOfAgentsOnlyGrowNewer(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := agent.Agent{ID: event.NewID(), Name: "Asha", Email: "asha@example.com", Active: true}
	upsert := func(version int64, name string, active bool) (gotName string, gotActive bool) {
		c := a
		c.Version, c.Name, c.Active = version, name, active
		require.NoError(t, s.agents.Upsert(t.Context(), c))
		require.NoError(t, s.db.Conn(t.Context()).QueryRow(t.Context(), `select name, active from agents where id = $1`, a.ID).Scan(&gotName, &gotActive))
		return gotName, gotActive
	}
	name, _ := upsert(1, "Asha", true)
	require.Equal(t, "Asha", name)
	name, active := upsert(3, "Asha R", false)
	require.Equal(t, "Asha R", name)
	require.False(t, active)
	name, active = upsert(2, "Asha", true)
	require.Equal(t, "Asha R", name)
	require.False(t, active)
}

func TestNothingIsLeftOfAFailedTransaction(t *testing.T) {
	t.Parallel()
	s := open(t)
	c := newClient(event.NewID(), "Priya")
	err := s.db.InTx(t.Context(), func(ctx context.Context) error {
		if err := s.clients.Create(ctx, c, created(c)); err != nil {
			return err
		}
		return context.Canceled
	})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.clients.Find(t.Context(), c.ID)
	require.True(t, fault.Is(err, fault.NotFound))
	require.Empty(t, s.published(t))
}
