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

// attempts implements agent.Attempts on the table login_failures. Each method is one statement that locks its rows in the order
// of their keys, so that attempts cannot deadlock.
type attempts struct {
	db     *pg.DB
	delays []float64 // seconds after 0, 1, 2 … failures; PostgreSQL counts elements from 1
}

// Attempts returns the store of failed logins.
func Attempts(db *pg.DB) agent.Attempts {
	s := attempts{db: db}
	for _, d := range agent.Delays() {
		s.delays = append(s.delays, d.Seconds())
	}
	return s
}

// Create begins an attempt.
func (s attempts) Create(ctx context.Context, a agent.Attempt) (agent.Attempt, error) {
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
		return a, fmt.Errorf("read earlier attempts: %w", err)
	}
	if free != nil {
		a.Wait = free.Sub(a.At)
	}
	return a, nil
}

// Change counts an attempt that failed.
func (s attempts) Change(ctx context.Context, a agent.Attempt) error {
	keys := slices.DeleteFunc(a.Keys(), a.HasCounted)
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

// Remove deletes the count of the account and subtracts what this attempt added to the count of the address, so that it does
// not delay the next attempt from there.
func (s attempts) Remove(ctx context.Context, a agent.Attempt) error {
	var address []byte
	if a.HasCounted(a.Address) {
		address = a.Address
	}
	_, err := s.db.Conn(ctx).Exec(ctx, `
		with known as materialized (
			select key from login_failures where key in ($1, $2) order by key for update
		), deleted as (
			delete from login_failures where key = $1 and key in (select key from known)
		)
		update login_failures set failures = failures - 1, last_at = $3::timestamptz - ($4::float8[])[failures] * interval '1 second'
		where key = $2 and key in (select key from known)`,
		a.Account, address, a.At, s.delays)
	if err != nil {
		return fmt.Errorf("delete failed attempts: %w", err)
	}
	return nil
}
