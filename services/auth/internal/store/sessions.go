package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// sessions implements agent.Sessions on the table sessions joined with agents. Every change locks the agent before the session:
// locks in a fixed order cannot deadlock.
type sessions struct {
	*table.Table[agent.Session]
	db     *pg.DB
	outbox *outbox.Outbox
}

// Sessions returns the store of sessions.
func Sessions(db *pg.DB, out *outbox.Outbox) agent.Sessions {
	type s = agent.Session
	return sessions{db: db, outbox: out, Table: table.New(db, out, table.Spec[s]{
		Name: "sessions",
		From: "sessions s join agents a on a.id = s.agent_id",
		Columns: func(s *s) table.Columns {
			own := table.Columns{
				table.Fixed("id", &s.ID), table.Fixed("agent_id", &s.AgentID), table.Fixed("created_at", &s.CreatedAt),
				table.Col("last_used_at", &s.LastUsedAt), table.Col("user_agent", &s.UserAgent), table.Col("ip", &s.IP),
				table.Fixed("family_hash", &s.FamilyHash), table.Col("refresh_hash", &s.RefreshHash), table.Col("spent_hash", &s.SpentHash),
				table.Col("nonce", &s.Nonce),
			}
			return append(own, agentColumns(&s.Owner).Of("a")...)
		},
		Order: table.Order[s]{Desc: true, Keys: []table.Key[s]{
			{Name: "s.created_at", Type: "timestamptz", Of: func(s s) any { return s.CreatedAt }},
			{Name: "s.id", Type: "uuid", Of: func(s s) any { return s.ID }},
		}},
		Missing: agent.SessionNotFound,
		Save: func(ctx context.Context, _, session *s) error {
			if session.EndedAt.IsZero() {
				return nil
			}
			if _, err := db.Conn(ctx).Exec(ctx, `delete from sessions where id = $1`, session.ID); err != nil {
				return fmt.Errorf("delete session %s: %w", session.ID, err)
			}
			return revoke(ctx, db, 0, true, session.ID)
		},
	})}
}

// Create writes a session. It takes a shared lock on the agent: a concurrent transaction that deactivates the agent or changes
// its password either finds the session, or has committed before it is checked here.
func (s sessions) Create(ctx context.Context, session agent.Session, passwordSetAt time.Time) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		tag, err := s.db.Conn(ctx).Exec(ctx, `select from agents where id = $1 and is_active and password_set_at = $2 for share`, session.AgentID, passwordSetAt)
		if err != nil {
			return fmt.Errorf("lock agent %s: %w", session.AgentID, err)
		}
		if tag.RowsAffected() == 0 {
			return agent.SessionNotFound()
		}
		_, err = s.Table.Create(ctx, &session, "")
		return err
	})
}

// List reads a page of an agent's sessions, newest first.
func (s sessions) List(ctx context.Context, agentID string, r page.Request) (page.Of[agent.Session], error) {
	var w table.Where
	w.And("s.agent_id = ?", agentID)
	return s.Table.List(ctx, w, r)
}

// Change changes a session, or deletes one that fn ends.
func (s sessions) Change(ctx context.Context, id string, fn func(*agent.Session) ([]event.Event, error)) (session agent.Session, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) (err error) {
		_, err = s.db.Conn(ctx).Exec(ctx, `select from agents where id = (select agent_id from sessions where id = $1) for no key update`, id)
		if err != nil {
			return fmt.Errorf("lock the agent of session %s: %w", id, err)
		}
		session, err = s.Table.Change(ctx, id, fn)
		return err
	})
	return session, err
}

// Remove deletes the sessions of an agent.
func (s sessions) Remove(ctx context.Context, agentID, except string, fn func(id string) event.Event) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		conn := s.db.Conn(ctx)
		// The lock on the agent orders its events and blocks new sessions.
		if _, err := conn.Exec(ctx, `select from agents where id = $1 for no key update`, agentID); err != nil {
			return fmt.Errorf("lock agent %s: %w", agentID, err)
		}
		rows, err := conn.Query(ctx, `delete from sessions where agent_id = $1 and id::text <> $2 returning id::text`, agentID, except)
		if err != nil {
			return fmt.Errorf("delete the sessions of agent %s: %w", agentID, err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("delete the sessions of agent %s: %w", agentID, err)
		}
		if err := revoke(ctx, s.db, 0, true, ids...); err != nil {
			return err
		}
		var events []event.Event
		for _, id := range ids {
			events = append(events, fn(id))
		}
		return s.outbox.Append(ctx, events...)
	})
}
