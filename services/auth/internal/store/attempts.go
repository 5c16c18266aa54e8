package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// Attempts is the table login_failures. Each method is one statement, and each locks its rows in the order of their keys,
// so that attempts cannot wait for each other in a circle.
type Attempts struct {
	db     *pg.DB
	delays []float64 // seconds; element n+1 in PostgreSQL's count is the delay after n failures
}

// NewAttempts makes the store of the failed logins in db.
func NewAttempts(db *pg.DB) *Attempts {
	s := &Attempts{db: db}
	for _, d := range agent.Delays() {
		s.delays = append(s.delays, d.Seconds())
	}
	return s
}

// Create begins an attempt, see agent.Attempts.
func (s *Attempts) Create(ctx context.Context, a agent.Attempt) (agent.Attempt, error) {
	var free *time.Time
	err := s.db.Conn(ctx).QueryRow(ctx, `
		with known as materialized (
			select key, ($3::float8[])[least(failures, cardinality($3::float8[]) - 1) + 1] * interval '1 second' as delay, last_at
			from login_failures where key = any($1) and last_at > $2::timestamptz - $4::interval order by key for update
		), slow as (
			select key, last_at + delay as free_at from known where delay > interval '0'
		), counted as (
			update login_failures set failures = least(failures + 1, cardinality($3::float8[])), last_at = $2
			where key in (select key from slow) and not exists (select from slow where free_at > $2)
			returning key
		)
		select (select max(free_at) from slow where free_at > $2), array(select key from counted), exists (select from known)`,
		a.Keys(), a.At, s.delays, agent.FailureWindow).Scan(&free, &a.Counted, &a.Known)
	if err != nil {
		return a, fmt.Errorf("look at earlier attempts: %w", err)
	}
	if free != nil {
		a.Wait = free.Sub(a.At)
	}
	return a, nil
}

// Change counts an attempt that failed.
func (s *Attempts) Change(ctx context.Context, a agent.Attempt) error {
	keys := slices.DeleteFunc(a.Keys(), func(k []byte) bool { return a.HasCounted(k) })
	if len(keys) == 0 {
		return nil
	}
	slices.SortFunc(keys, bytes.Compare)
	_, err := s.db.Conn(ctx).Exec(ctx, `
		insert into login_failures as f (key, failures, last_at) select key, 1, $2 from unnest($1::bytea[]) key
		on conflict (key) do update set last_at = excluded.last_at,
			failures = case when f.last_at > excluded.last_at - $3::interval then least(f.failures + 1, $4) else 1 end`,
		keys, a.At, agent.FailureWindow, len(s.delays))
	if err != nil {
		return fmt.Errorf("count a failed attempt: %w", err)
	}
	return nil
}

// Remove forgets what counts against the account, and what this attempt has added at the address: the next one from there
// need not wait.
func (s *Attempts) Remove(ctx context.Context, a agent.Attempt) error {
	var address []byte
	if a.HasCounted(a.Address) {
		address = a.Address
	}
	_, err := s.db.Conn(ctx).Exec(ctx, `
		with known as materialized (
			select key from login_failures where key in ($1, $2) order by key for update
		), gone as (
			delete from login_failures where key = $1 and key in (select key from known)
		)
		update login_failures set failures = failures - 1, last_at = $3::timestamptz - ($4::float8[])[failures] * interval '1 second'
		where key = $2 and key in (select key from known)`,
		a.Account, address, a.At, s.delays)
	if err != nil {
		return fmt.Errorf("forget failed attempts: %w", err)
	}
	return nil
}
