package store

import (
	"context"
	"fmt"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// Agents keeps the copies of agents.
type Agents struct{ db *pg.DB }

// NewAgents makes the store.
func NewAgents(db *pg.DB) *Agents { return &Agents{db} }

// Find implements delivery.Agents.
func (s *Agents) Find(ctx context.Context, id string) (a delivery.Agent, ok bool, err error) {
	err = s.db.Conn(ctx).QueryRow(ctx, `select id::text, version, name, email from agents where id = $1`, id).Scan(&a.ID, &a.Version, &a.Name, &a.Email)
	return found(a, err, "agent", id)
}

// Change implements delivery.Agents.
func (s *Agents) Change(ctx context.Context, a delivery.Agent) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `insert into agents (id, version, name, email) values ($1, $2, $3, $4)
		on conflict (id) do update set version = excluded.version, name = excluded.name, email = excluded.email
		where excluded.version > agents.version`, a.ID, a.Version, a.Name, a.Email)
	if err != nil {
		return fmt.Errorf("copy agent %s: %w", a.ID, err)
	}
	return nil
}

// Clients keeps the copies of clients.
type Clients struct{ db *pg.DB }

// NewClients makes the store.
func NewClients(db *pg.DB) *Clients { return &Clients{db} }

// Find implements delivery.Clients.
func (s *Clients) Find(ctx context.Context, id string) (c delivery.Client, ok bool, err error) {
	err = s.db.Conn(ctx).QueryRow(ctx, `select id::text, version, name, phone, email from clients where id = $1`, id).Scan(&c.ID, &c.Version, &c.Name, &c.Phone, &c.Email)
	return found(c, err, "client", id)
}

// Change implements delivery.Clients.
func (s *Clients) Change(ctx context.Context, c delivery.Client) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `insert into clients (id, version, name, phone, email) values ($1, $2, $3, $4, $5)
		on conflict (id) do update set version = excluded.version, name = excluded.name, phone = excluded.phone, email = excluded.email
		where excluded.version > clients.version`, c.ID, c.Version, c.Name, c.Phone, c.Email)
	if err != nil {
		return fmt.Errorf("copy client %s: %w", c.ID, err)
	}
	return nil
}

func found[T any](copied T, err error, what, id string) (T, bool, error) {
	if pg.NoRows(err) {
		return copied, false, nil
	}
	if err != nil {
		return copied, false, fmt.Errorf("find the copy of %s %s: %w", what, id, err)
	}
	return copied, true, nil
}
