package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/crm/internal/agent"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// Seeder writes rows that no event announces, as convoflow seed does. A chunk of rows is written once.
type Seeder struct{ db *pg.DB }

// NewSeeder returns a Seeder.
func NewSeeder(db *pg.DB) Seeder { return Seeder{db} }

// once runs write in a transaction unless the chunk was written before. wrote says whether it ran.
func (s Seeder) once(ctx context.Context, seed int64, kind string, chunk int, write func(ctx context.Context) error) (wrote bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		// On a slow disk a chunk takes longer than a request may, and would take as long the next time.
		if _, err := s.db.Conn(ctx).Exec(ctx, `set local statement_timeout = 0`); err != nil {
			return err
		}
		tag, err := s.db.Conn(ctx).Exec(ctx, `insert into seeded values ($1, $2, $3) on conflict do nothing`, seed, kind, chunk)
		if err != nil {
			return err
		}
		if wrote = tag.RowsAffected() > 0; !wrote {
			return nil
		}
		return write(ctx)
	})
	if err != nil {
		return false, fmt.Errorf("write chunk %d of %s: %w", chunk, kind, pg.Classify(err))
	}
	return wrote, nil
}

func (s Seeder) copyRows(ctx context.Context, table string, columns []string, n int, row func(int) []any) error {
	_, err := s.db.Conn(ctx).CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromSlice(n, func(i int) ([]any, error) { return row(i), nil }))
	return err
}

// Agents writes a chunk of copies of agents.
func (s Seeder) Agents(ctx context.Context, seed int64, chunk int, rows []agent.Agent) (bool, error) {
	return s.once(ctx, seed, "agents", chunk, func(ctx context.Context) error {
		return s.copyRows(ctx, "agents", []string{"id", "version", "name", "email", "active"}, len(rows), func(i int) []any {
			return []any{rows[i].ID, rows[i].Version, rows[i].Name, rows[i].Email, rows[i].Active}
		})
	})
}

// Leads writes a chunk of leads.
func (s Seeder) Leads(ctx context.Context, seed int64, chunk int, rows []lead.Lead) (bool, error) {
	return s.once(ctx, seed, "leads", chunk, func(ctx context.Context) error {
		return s.copyRows(ctx, "leads", []string{
			"id", "assigned_agent_id", "name", "phone", "email", "source_campaign", "status", "intent_category", "intent_confidence", "interest_level",
			"callback_scheduled_at", "next_followup_at", "last_contacted_at", "followup_count", "course_interested_in", "payment_link_sent", "objections",
			"extra_data", "call_version", "version", "created_at", "updated_at", "converted_at",
		}, len(rows), func(i int) []any {
			l := &rows[i]
			return []any{
				l.ID, l.AssignedAgentID, l.Name, l.Phone, l.Email, l.SourceCampaign, string(l.Status), string(l.IntentCategory), l.IntentConfidence, l.InterestLevel,
				l.CallbackScheduledAt, l.NextFollowUpAt, l.LastContactedAt, l.FollowUpCount, l.CourseInterestedIn, l.PaymentLinkSent, l.Objections,
				l.ExtraData, l.Call.Version, l.Version, l.CreatedAt, l.UpdatedAt, l.ConvertedAt,
			}
		})
	})
}

// Calls writes a chunk of copies of calls.
func (s Seeder) Calls(ctx context.Context, seed int64, chunk int, rows []followup.Call) (bool, error) {
	return s.once(ctx, seed, "calls", chunk, func(ctx context.Context) error {
		return s.copyRows(ctx, "calls", []string{
			"id", "version", "agent_id", "lead_id", "status", "deleted", "called_at", "duration_seconds", "sentiment", "key_topics", "objections", "talk",
		}, len(rows), func(i int) []any {
			c := &rows[i]
			return []any{c.ID, c.Version, c.AgentID, c.LeadID, c.Status, c.Deleted, c.CalledAt, c.DurationSeconds, c.Sentiment, c.KeyTopics, c.Objections, c.Talk}
		})
	})
}

// FollowUps writes a chunk of follow-ups.
func (s Seeder) FollowUps(ctx context.Context, seed int64, chunk int, rows []followup.FollowUp) (bool, error) {
	return s.once(ctx, seed, "followups", chunk, func(ctx context.Context) error {
		return s.copyRows(ctx, "followups", []string{
			"id", "call_id", "lead_id", "agent_id", "due_date", "task", "status", "source", "version", "created_at", "updated_at", "completed_at",
		}, len(rows), func(i int) []any {
			x := &rows[i]
			return []any{x.ID, x.CallID, x.LeadID, x.AgentID, x.DueDate, x.Task, string(x.Status), string(x.Source), x.Version, x.CreatedAt, x.UpdatedAt, x.CompletedAt}
		})
	})
}

// Finish updates what PostgreSQL knows about the tables that were written.
func (s Seeder) Finish(ctx context.Context) error {
	conn, err := s.db.Pool().Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to analyze: %w", pg.Classify(err))
	}
	defer conn.Release()
	for _, statement := range []string{"set statement_timeout = 0", "vacuum (analyze) leads, calls, followups, agents", "reset statement_timeout"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("analyze the tables: %w", pg.Classify(err))
		}
	}
	return nil
}
