package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/crm/internal/timeline"
)

// items implements timeline.Store on the table timeline.
type items struct {
	*table.Copies[timeline.Item]
	rows *table.Table[timeline.Item]
	db   *pg.DB
}

// Timeline returns the store of timelines.
func Timeline(db *pg.DB) timeline.Store { return newItems(db) }

func newItems(db *pg.DB) items {
	type item = timeline.Item
	columns := func(i *item) table.Columns {
		return table.Columns{
			table.Col("id", &i.ID), table.Col("version", &i.Version), table.Col("kind", &i.Kind), table.Col("at", &i.At),
			table.Col("client_id", &i.ClientID), table.Col("lead_id", &i.LeadID), table.Col("call_id", &i.CallID),
			table.Col("followup_id", &i.FollowUpID), table.Col("agent_id", &i.AgentID), table.Col("event", &i.Event),
			table.Col("title", &i.Title), table.Col("status", &i.Status), table.Col("reason", &i.Reason),
			table.Col("due_date", &i.DueDate), table.Col("fields", &i.Fields),
		}
	}
	return items{db: db, Copies: table.NewCopies(db, "timeline", columns), rows: table.New(db, nil, table.Spec[item]{
		Name: "timeline", Columns: columns,
		Order: table.Order[item]{Desc: true, Keys: []table.Key[item]{
			{Name: "at", Type: "timestamptz", Of: func(i item) any { return i.At }},
			{Name: "id", Type: "uuid", Of: func(i item) any { return i.ID }},
		}},
	})}
}

// List reads a page of items, newest first.
func (s items) List(ctx context.Context, f timeline.Filter) (page.Of[timeline.Item], error) {
	var w table.Where
	w.If(f.ClientID != "", "client_id = ?", f.ClientID)
	w.If(f.ClientID == "", "lead_id = ?", f.LeadID)
	return s.rows.List(ctx, w, f.Request)
}

// Upsert stores an item. The deliveries of a call follow it to another client or lead, also those that are stored afterwards.
func (s items) Upsert(ctx context.Context, i timeline.Item) error {
	if i.Kind == timeline.Call {
		return s.upsertCall(ctx, i)
	}
	if err := s.Copies.Upsert(ctx, i); err != nil || i.Kind != timeline.Delivery || i.CallID == nil || i.FollowUpID != nil {
		return err
	}
	// While a call is written, neither transaction sees what the other one writes. This one gives up and is repeated, because a batch
	// of deliveries and one of calls would wait for each other.
	free := false
	if err := s.db.Conn(ctx).QueryRow(ctx, `select pg_try_advisory_xact_lock_shared(hashtextextended($1, 0))`, i.CallID).Scan(&free); err != nil {
		return fmt.Errorf("lock call %s: %w", *i.CallID, pg.Classify(err))
	}
	if !free {
		return fmt.Errorf("store delivery %s: its call %s is being written", i.ID, *i.CallID)
	}
	_, err := s.db.Conn(ctx).Exec(ctx, `
		update timeline t set client_id = c.client_id, lead_id = c.lead_id from calls c
		where t.id = $1 and c.id = $2 and (c.client_id is null or exists (select from clients where id = c.client_id))
			and (c.lead_id is null or exists (select from leads where id = c.lead_id))`, i.ID, i.CallID)
	if err != nil {
		return fmt.Errorf("store delivery %s with the client and lead of its call: %w", i.ID, err)
	}
	return nil
}

func (s items) upsertCall(ctx context.Context, i timeline.Item) error {
	if _, err := s.db.Conn(ctx).Exec(ctx, `select pg_advisory_xact_lock(hashtextextended($1, 0))`, i.ID); err != nil {
		return fmt.Errorf("lock call %s: %w", i.ID, pg.Classify(err))
	}
	if err := s.Copies.Upsert(ctx, i); err != nil {
		return err
	}
	_, err := s.db.Conn(ctx).Exec(ctx, `
		update timeline set client_id = $2, lead_id = $3 where call_id = $1 and kind = 'delivery' and followup_id is null
			and (client_id, lead_id) is distinct from ($2::uuid, $3::uuid)`, i.ID, i.ClientID, i.LeadID)
	if err != nil {
		return fmt.Errorf("move the deliveries of call %s: %w", i.ID, err)
	}
	return nil
}

// Remove removes an item.
func (s items) Remove(ctx context.Context, id string) error { return removeItem(ctx, s.db, id) }

func removeItem(ctx context.Context, db *pg.DB, id string) error {
	if _, err := db.Conn(ctx).Exec(ctx, `delete from timeline where id = $1`, id); err != nil {
		return fmt.Errorf("remove %s from the timeline: %w", id, pg.Classify(err))
	}
	return nil
}

// record writes changes of clients or leads to their timelines, in the transaction of ctx. They have the
// names of what changed and no values. Their author is the caller of ctx; a change by an event or a job has none.
func (s items) record(ctx context.Context, changes ...timeline.Item) error {
	caller, err := identity.From(ctx)
	for i := range changes {
		c := &changes[i]
		c.ID, c.Kind, c.Version = event.NewID(), timeline.Change, 1
		if err == nil {
			c.AgentID = &caller.AgentID
		}
	}
	if len(changes) == 1 {
		return s.rows.CreateLater(ctx, changes)
	}
	_, err = s.rows.CreateAll(ctx, changes, func(*timeline.Item) []event.Event { return nil })
	return err
}

// unlisted are columns that a change does not name: those that change with others, and those that the API does not show.
var unlisted = []string{
	"version", "updated_at", "raw_phone", "received_data", "decided_at", "converted_at", "status_reason", "call_id", "call_version", "call_at",
	"found",
}

// changedFields returns the names of the fields that differ from an earlier state.
func changedFields(before, after table.Columns) []string {
	return slices.DeleteFunc(after.Changed(before), func(name string) bool { return slices.Contains(unlisted, name) })
}
