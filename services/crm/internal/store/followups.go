package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
)

// FollowUps is the table followups.
type FollowUps struct{ table[followup.FollowUp] }

// NewFollowUps makes the store.
func NewFollowUps(db *pg.DB, out *outbox.Outbox) *FollowUps {
	return &FollowUps{table[followup.FollowUp]{
		db: db, out: out, name: "followups",
		columns:  "id, call_id, client_id, lead_id, agent_id, due_date, task, notes, status, source, version, created_at, updated_at, completed_at",
		order:    "due_date, id",
		after:    "(due_date, id) > (@at, @after)",
		position: func(x followup.FollowUp) pg.Cursor { return pg.Cursor{At: x.DueDate, ID: x.ID} },
		utc:      followUpInUTC,
		missing:  followup.NotFound,
	}}
}

func followUpInUTC(x *followup.FollowUp) {
	x.DueDate, x.CreatedAt, x.UpdatedAt = x.DueDate.UTC(), x.CreatedAt.UTC(), x.UpdatedAt.UTC()
	if x.CompletedAt != nil {
		at := x.CompletedAt.UTC()
		x.CompletedAt = &at
	}
}

func followUpArgs(x followup.FollowUp) pgx.NamedArgs {
	return pgx.NamedArgs{
		"id": x.ID, "call_id": x.CallID, "client_id": x.ClientID, "lead_id": x.LeadID, "agent_id": x.AgentID, "due_date": x.DueDate,
		"task": x.Task, "notes": x.Notes, "status": x.Status, "source": x.Source, "version": x.Version,
		"created_at": x.CreatedAt, "updated_at": x.UpdatedAt, "completed_at": x.CompletedAt,
	}
}

// Create saves a follow-up with the events that fn returns of it.
func (s *FollowUps) Create(ctx context.Context, x followup.FollowUp, fn func(*followup.FollowUp) []contract.Event) (followup.FollowUp, error) {
	err := s.db.InTx(ctx, func(ctx context.Context) error {
		if err := s.holdClient(ctx, &x); err != nil {
			return err
		}
		err := exec(ctx, s.db, `
			insert into followups (id, call_id, client_id, lead_id, agent_id, due_date, task, notes, status, source, version, created_at, updated_at, completed_at)
			values (@id, @call_id, @client_id, @lead_id, @agent_id, @due_date, @task, @notes, @status, @source, @version, @created_at, @updated_at, @completed_at)`,
			followUpArgs(x))
		if err != nil {
			return fmt.Errorf("insert follow-up %s: %w", x.ID, err)
		}
		return s.out.Append(ctx, fn(&x)...)
	})
	return x, err
}

// holdClient keeps the client from being deleted until the transaction ends, or takes one that is gone out of x: the copy of
// a call may name a client whose deletion calls has not heard of yet.
func (s *FollowUps) holdClient(ctx context.Context, x *followup.FollowUp) error {
	if x.ClientID == nil {
		return nil
	}
	tag, err := s.db.Conn(ctx).Exec(ctx, `select from clients where id = @client_id for key share`, pgx.NamedArgs{"client_id": x.ClientID})
	if err != nil {
		return fmt.Errorf("hold client %s: %w", *x.ClientID, err)
	}
	if tag.RowsAffected() == 0 {
		x.ClientID = nil
	}
	return nil
}

// Find reads a follow-up.
func (s *FollowUps) Find(ctx context.Context, id string) (followup.FollowUp, error) {
	return s.find(ctx, id, "")
}

// List reads a page of follow-ups, the one that is due first first.
func (s *FollowUps) List(ctx context.Context, f followup.Filter) (followup.Page, error) {
	c := none()
	if f.AgentID != "" {
		c.add("agent_id = @agent_id", "agent_id", f.AgentID)
	}
	if f.CallID != "" {
		c.add("call_id = @call_id", "call_id", f.CallID)
	}
	if f.ClientID != "" {
		c.add("client_id = @client_id", "client_id", f.ClientID)
	}
	if f.Completed != nil {
		c.add("(status = 'completed') = @completed", "completed", *f.Completed)
	}
	if f.DueBefore != nil {
		c.add("due_date < @before", "before", *f.DueBefore)
	}
	if f.DueAfter != nil {
		c.add("due_date >= @from", "from", *f.DueAfter)
	}
	if f.Overdue != nil {
		c.add("(status = 'pending' and due_date < @now) = @overdue", "now", f.Now)
		c.args["overdue"] = *f.Overdue
	}
	items, next, err := s.list(ctx, c, f.Limit, f.Skip, f.Cursor)
	return followup.Page{Items: items, Next: next}, err
}

// Change changes a follow-up.
func (s *FollowUps) Change(ctx context.Context, id string, fn func(*followup.FollowUp) ([]contract.Event, error)) (followup.FollowUp, error) {
	return s.alter(ctx, id, fn, func(ctx context.Context, x followup.FollowUp) error {
		return exec(ctx, s.db, `
			update followups set due_date = @due_date, task = @task, notes = @notes, status = @status, version = @version, updated_at = @updated_at, completed_at = @completed_at
			where id = @id`, followUpArgs(x))
	})
}

// Remove deletes a follow-up.
func (s *FollowUps) Remove(ctx context.Context, id string, fn func(*followup.FollowUp) ([]contract.Event, error)) error {
	return s.remove(ctx, id, fn)
}
