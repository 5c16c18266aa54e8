package store

import (
	"context"
	"fmt"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

// followups implements followup.Store on the table followups.
type followups struct {
	*table.Table[followup.FollowUp]
	db *pg.DB
}

// FollowUps returns the store of follow-ups.
func FollowUps(db *pg.DB, out *outbox.Outbox) followup.Store {
	type f = followup.FollowUp
	return followups{db: db, Table: table.New(db, out, table.Spec[f]{
		Name: "followups",
		Columns: func(f *f) table.Columns {
			return table.Columns{
				table.Fixed("id", &f.ID), table.Fixed("call_id", &f.CallID), table.Fixed("client_id", &f.ClientID), table.Fixed("lead_id", &f.LeadID),
				table.Fixed("agent_id", &f.AgentID), table.Col("due_date", &f.DueDate), table.Col("task", &f.Task), table.Col("notes", &f.Notes),
				table.Col("status", &f.Status), table.Fixed("source", &f.Source), table.Col("version", &f.Version),
				table.Fixed("created_at", &f.CreatedAt), table.Col("updated_at", &f.UpdatedAt), table.Col("completed_at", &f.CompletedAt),
			}
		},
		Order: table.Order[f]{Keys: []table.Key[f]{
			{Name: "due_date", Type: "timestamptz", Of: func(f f) any { return f.DueDate }},
			{Name: "id", Type: "uuid", Of: func(f f) any { return f.ID }},
		}},
		Missing: followup.NotFound,
	})}
}

// Create writes a follow-up with the events that fn returns for it.
func (s followups) Create(ctx context.Context, x followup.FollowUp, fn func(*followup.FollowUp) []event.Event) (followup.FollowUp, error) {
	err := s.db.InTx(ctx, func(ctx context.Context) error {
		if err := s.lockClient(ctx, &x); err != nil {
			return err
		}
		_, err := s.Table.Create(ctx, &x, "", fn(&x)...)
		return err
	})
	return x, err
}

// lockClient prevents the deletion of x's client until the transaction ends, or removes a deleted one from x: the copy of a
// call may name a client whose deletion has not reached calls yet.
func (s followups) lockClient(ctx context.Context, x *followup.FollowUp) error {
	if x.ClientID == nil {
		return nil
	}
	tag, err := s.db.Conn(ctx).Exec(ctx, `select from clients where id = $1 for key share`, x.ClientID)
	if err != nil {
		return fmt.Errorf("lock client %s: %w", *x.ClientID, err)
	}
	if tag.RowsAffected() == 0 {
		x.ClientID = nil
	}
	return nil
}

// List reads a page of follow-ups, ordered by due date.
func (s followups) List(ctx context.Context, f followup.Filter) (page.Of[followup.FollowUp], error) {
	var w table.Where
	w.If(f.AgentID != "", "agent_id = ?", f.AgentID)
	w.If(f.CallID != "", "call_id = ?", f.CallID)
	w.If(f.ClientID != "", "client_id = ?", f.ClientID)
	w.If(f.Completed != nil, "(status = 'completed') = ?", f.Completed)
	w.If(f.DueBefore != nil, "due_date < ?", f.DueBefore)
	w.If(f.DueAfter != nil, "due_date >= ?", f.DueAfter)
	w.If(f.Overdue != nil, "(status = 'pending' and due_date < ?) = ?", f.Now, f.Overdue)
	return s.Table.List(ctx, w, f.Request)
}
