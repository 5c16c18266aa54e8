package store

import (
	"context"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/timeline"
)

// followups implements followup.Store on the table followups.
type followups struct {
	*table.Table[followup.FollowUp]
	db    *pg.DB
	links *Links
}

// FollowUps returns the store of follow-ups.
func FollowUps(db *pg.DB, out *outbox.Outbox) followup.Store {
	type f = followup.FollowUp
	timelines := Timeline(db)
	return followups{db: db, links: NewLinks(db), Table: table.New(db, out, table.Spec[f]{
		Name: "followups",
		Columns: func(f *f) table.Columns {
			return table.Columns{
				table.Fixed("id", &f.ID), table.Fixed("call_id", &f.CallID), table.Fixed("client_id", &f.ClientID), table.Fixed("lead_id", &f.LeadID),
				table.Fixed("agent_id", &f.AgentID), table.Col("due_date", &f.DueDate), table.Col("announced", &f.Announced),
				table.Col("reminded", &f.Reminded), table.Col("pabbly_triggered", &f.Triggered), table.Col("task", &f.Task), table.Col("notes", &f.Notes),
				table.Col("status", &f.Status), table.Fixed("source", &f.Source), table.Col("version", &f.Version),
				table.Fixed("created_at", &f.CreatedAt), table.Col("updated_at", &f.UpdatedAt), table.Col("completed_at", &f.CompletedAt),
			}
		},
		Order: table.Order[f]{Keys: []table.Key[f]{
			{Name: dueOrder, Type: "timestamptz", Of: func(f f) any {
				if f.DueDate == nil {
					return noDueDate
				}
				return f.DueDate
			}},
			{Name: "id", Type: "uuid", Of: func(f f) any { return f.ID }},
		}},
		Missing: followup.NotFound,
		Save: func(ctx context.Context, _, x *f) error {
			status := string(x.Status)
			return timelines.Upsert(ctx, timeline.Item{
				ID: x.ID, Kind: timeline.FollowUp, At: x.CreatedAt, Version: x.Version, ClientID: x.ClientID, LeadID: x.LeadID, CallID: &x.CallID,
				FollowUpID: &x.ID, AgentID: &x.AgentID, Title: x.Task, Status: &status, DueDate: x.DueDate,
			})
		},
	})}
}

// noDueDate is where a follow-up without a date is in lists: at the end.
const noDueDate = "9999-12-31T23:59:59Z"

// dueOrder is the expression of the indexes by due date.
const dueOrder = "coalesce(due_date, '" + noDueDate + "'::timestamptz)"

// Create writes a follow-up with the events that fn returns for it.
func (s followups) Create(ctx context.Context, x followup.FollowUp, fn func(*followup.FollowUp) []event.Event) (followup.FollowUp, error) {
	err := s.db.InTx(ctx, func(ctx context.Context) error {
		// The copy of a call may name a client or lead whose deletion has not reached calls yet.
		var err error
		if x.ClientID, x.LeadID, err = s.links.Find(ctx, x.ClientID, x.LeadID); err != nil {
			return err
		}
		_, err = s.Table.Create(ctx, &x, "on conflict (id) do nothing", fn(&x)...)
		return err
	})
	return x, err
}

// Remove deletes a follow-up, also from timelines.
func (s followups) Remove(ctx context.Context, id string, fn func(*followup.FollowUp) ([]event.Event, error)) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		if err := s.Table.Remove(ctx, id, fn); err != nil {
			return err
		}
		return removeItem(ctx, s.db, id)
	})
}

// remindSize is the maximum number of follow-ups that one transaction of ChangeDue changes.
const remindSize = 200

// ChangeDue changes the follow-ups whose time has come, the earliest first. Other replicas skip those that this one has locked.
func (s followups) ChangeDue(ctx context.Context, fn func(*followup.FollowUp) []event.Event) error {
	var w table.Where
	w.And("status = 'pending' and not reminded and due_date is not null and due_date <= now()")
	for {
		n, err := s.ChangeEach(ctx, w, "due_date, id", remindSize, func(x *followup.FollowUp) ([]event.Event, error) { return fn(x), nil })
		if err != nil || n < remindSize {
			return err
		}
	}
}

// List reads a page of follow-ups, ordered by due date.
func (s followups) List(ctx context.Context, f followup.Filter) (page.Of[followup.FollowUp], error) {
	var w table.Where
	w.If(f.AgentID != "", "agent_id = ?", f.AgentID)
	w.If(f.CallID != "", "call_id = ?", f.CallID)
	w.If(f.ClientID != "", "client_id = ?", f.ClientID)
	w.If(f.Completed != nil && *f.Completed, "status = 'completed'")
	w.If(f.Completed != nil && !*f.Completed, "status in ('suggested', 'pending')")
	w.If(f.Status != "", "status = ?", f.Status)
	w.If(f.DueBefore != nil, dueOrder+" < ?", f.DueBefore)
	w.If(f.DueAfter != nil, "due_date is not null and "+dueOrder+" >= ?", f.DueAfter)
	w.If(f.Overdue != nil, "coalesce(status = 'pending' and due_date < ?, false) = ?", f.Now, f.Overdue)
	return s.Table.List(ctx, w, f.Request)
}
