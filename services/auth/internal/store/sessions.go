package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// Sessions is the table sessions.
type Sessions struct {
	db  *pg.DB
	out *outbox.Outbox
}

// NewSessions makes the store of the sessions in db.
func NewSessions(db *pg.DB, out *outbox.Outbox) *Sessions { return &Sessions{db, out} }

const sessionColumns = `s.id, s.agent_id, s.created_at, s.last_used_at, s.user_agent, s.ip, s.family_hash, s.refresh_hash, s.spent_hash, s.nonce`

func sessionFields(s *agent.Session) []any {
	return []any{&s.ID, &s.AgentID, &s.CreatedAt, &s.LastUsedAt, &s.UserAgent, &s.IP, &s.FamilyHash, &s.RefreshHash, &s.SpentHash, &s.Nonce}
}

func noSession() error {
	return fault.New(fault.NotFound, "session_not_found", "Session not found")
}

// Create keeps a session that a password opened. It takes a share of the agent's lock, so that a session is either seen by
// who deactivates the agent or changes the password, or sees that itself.
func (s *Sessions) Create(ctx context.Context, session agent.Session, passwordSetAt time.Time) error {
	tag, err := s.db.Conn(ctx).Exec(ctx, `
		with owner as (select id from agents where id = $2 and is_active and password_set_at = $9 for share)
		insert into sessions (id, agent_id, created_at, last_used_at, user_agent, ip, family_hash, refresh_hash)
		select $1, id, $3, $4, $5, $6, $7, $8 from owner`,
		session.ID, session.AgentID, session.CreatedAt, session.LastUsedAt, session.UserAgent, session.IP, session.FamilyHash, session.RefreshHash, passwordSetAt)
	if err != nil {
		return fmt.Errorf("insert session %s: %w", session.ID, err)
	}
	if tag.RowsAffected() == 0 {
		return noSession()
	}
	return nil
}

// Find returns a session and its agent, or the NotFound fault session_not_found.
func (s *Sessions) Find(ctx context.Context, id string) (agent.Session, agent.Agent, error) {
	return s.find(ctx, id, "")
}

func (s *Sessions) find(ctx context.Context, id, lock string) (session agent.Session, a agent.Agent, err error) {
	// The agent comes first, here and everywhere: locks in one order cannot wait for each other.
	row := s.db.Conn(ctx).QueryRow(ctx, `
		select `+sessionColumns+`, a.id, a.version, a.email, a.password_hash, a.password_set_at, a.full_name, a.role, a.is_active, a.created_at, a.updated_at
		from agents a join sessions s on s.agent_id = a.id where s.id = $1 `+lock, id)
	err = row.Scan(append(sessionFields(&session), agentFields(&a)...)...)
	if pg.NoRows(err) {
		err = noSession()
	}
	if err != nil {
		return agent.Session{}, agent.Agent{}, fmt.Errorf("read session %s: %w", id, err)
	}
	return session, a, nil
}

// List returns a page of an agent's sessions, newest first.
func (s *Sessions) List(ctx context.Context, f agent.SessionFilter) (agent.SessionPage, error) {
	items, next, err := list(ctx, s.db, `select `+sessionColumns+` from sessions s where s.agent_id = @agent_id`,
		pgx.NamedArgs{"agent_id": f.AgentID}, f.Limit, f.Skip, f.Cursor,
		func(row pgx.Row) (session agent.Session, err error) {
			return session, row.Scan(sessionFields(&session)...)
		},
		func(session agent.Session) pg.Cursor { return pg.Cursor{At: session.CreatedAt, ID: session.ID} })
	if err != nil {
		return agent.SessionPage{}, fmt.Errorf("list the sessions of agent %s: %w", f.AgentID, err)
	}
	return agent.SessionPage{Items: items, Next: next}, nil
}

// Change lets fn change a session under a lock on it and its agent. It saves the session, or removes one that has ended, with
// the events that fn returns.
func (s *Sessions) Change(ctx context.Context, id string, fn func(*agent.Session, agent.Agent) ([]event.Event, error)) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		session, a, err := s.find(ctx, id, "for no key update")
		if err != nil {
			return err
		}
		events, err := fn(&session, a)
		if err != nil {
			return err
		}
		if err := s.save(ctx, session); err != nil {
			return fmt.Errorf("save session %s: %w", id, err)
		}
		return s.out.Append(ctx, events...)
	})
}

func (s *Sessions) save(ctx context.Context, session agent.Session) error {
	if !session.EndedAt.IsZero() {
		_, err := s.db.Conn(ctx).Exec(ctx, `delete from sessions where id = $1`, session.ID)
		return err
	}
	_, err := s.db.Conn(ctx).Exec(ctx, `update sessions set last_used_at = $2, user_agent = $3, ip = $4, refresh_hash = $5, spent_hash = $6, nonce = $7 where id = $1`,
		session.ID, session.LastUsedAt, session.UserAgent, session.IP, session.RefreshHash, session.SpentHash, session.Nonce)
	return err
}

// Remove ends all sessions of an agent but the one with the id keep, each with its event session.revoked.
func (s *Sessions) Remove(ctx context.Context, agentID, keep, reason string, now time.Time) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		conn := s.db.Conn(ctx)
		// The agent's lock keeps its events in order, and keeps new sessions waiting.
		if _, err := conn.Exec(ctx, `select from agents where id = $1 for no key update`, agentID); err != nil {
			return fmt.Errorf("lock agent %s: %w", agentID, err)
		}
		rows, err := conn.Query(ctx, `delete from sessions where agent_id = $1 and id::text <> $2 returning id::text`, agentID, keep)
		if err != nil {
			return fmt.Errorf("end the sessions of agent %s: %w", agentID, err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("end the sessions of agent %s: %w", agentID, err)
		}
		var events []event.Event
		for _, id := range ids {
			events = append(events, agent.Ended(agentID, id, reason, now))
		}
		return s.out.Append(ctx, events...)
	})
}
