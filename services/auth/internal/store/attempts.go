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

// attempts implements agent.Attempts on the tables login_failures and known_networks. Each method is one statement that locks its
// rows in the order of their keys, so that attempts cannot deadlock.
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
	var known, free *time.Time
	limits := a.Limits()
	keys, longest, slack := make([][]byte, len(limits)), make([]float64, len(limits)), make([]int, len(limits))
	for i, l := range limits {
		keys[i], longest[i], slack[i] = l.Key, l.Longest.Seconds(), l.Slack
	}
	err := s.db.Conn(ctx).QueryRow(ctx, `
		with place as (
			select max(last_at) as known_at from known_networks where key = $5 and last_at > $2::timestamptz - $7::interval
		), failed as materialized (
			select f.key, least(($3::float8[])[least(greatest(failures - l.slack, 0), cardinality($3::float8[]) - 1) + 1], l.longest) * interval '1 second' as delay, last_at
			from login_failures f join unnest($1::bytea[], $8::float8[], $9::int[]) l (key, longest, slack) on l.key = f.key
			where last_at > $2::timestamptz - $4::interval and (f.key = $5 or (select known_at from place) is null) order by f.key for update of f
		), slow as (
			select key, last_at + delay as free_at from failed where delay > interval '0'
		), counted as (
			update login_failures set failures = least(failures + 1, $6), last_at = $2
			where key in (select key from slow) and not exists (select from slow where free_at > $2)
			returning key
		)
		select (select known_at from place), (select max(free_at) from slow where free_at > $2), array(select key from counted), exists (select from failed)`,
		keys, a.At, s.delays, agent.FailureWindow, a.Place, agent.MaxFailures(), agent.KnownFor, longest, slack).Scan(&known, &free, &a.Counted, &a.Failed)
	if err != nil {
		return a, fmt.Errorf("read earlier attempts: %w", err)
	}
	if known != nil {
		a.KnownAt = *known
	}
	if free != nil {
		a.Wait = free.Sub(a.At)
	}
	return a, nil
}

// Change counts an attempt that failed.
func (s attempts) Change(ctx context.Context, a agent.Attempt) error {
	var keys [][]byte
	for _, l := range a.Limits() {
		if !a.HasCounted(l.Key) {
			keys = append(keys, l.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	slices.SortFunc(keys, bytes.Compare)
	_, err := s.db.Conn(ctx).Exec(ctx, `
		insert into login_failures as f (key, failures, last_at) select key, 1, $2 from unnest($1::bytea[]) key
		on conflict (key) do update set last_at = excluded.last_at,
			failures = case when f.last_at > excluded.last_at - $3::interval then least(f.failures + 1, $4) else 1 end`,
		keys, a.At, agent.FailureWindow, agent.MaxFailures())
	if err != nil {
		return fmt.Errorf("count a failed attempt: %w", err)
	}
	return nil
}

// Remove deletes the counts of the account, and subtracts what this attempt added to the count of the address, so that it does not
// delay the next attempt from there. The network is known from now on.
func (s attempts) Remove(ctx context.Context, a agent.Attempt) error {
	var address agent.Limit
	for _, l := range a.Limits() {
		if bytes.Equal(l.Key, a.Address) && a.HasCounted(l.Key) {
			address = l
		}
	}
	_, err := s.db.Conn(ctx).Exec(ctx, `
		with failed as materialized (
			select key from login_failures where key in ($1, $2, $3) order by key for update
		), deleted as (
			delete from login_failures where key in ($1, $2) and key in (select key from failed)
		), known as (
			insert into known_networks as k (key, last_at) values ($1, $4)
			on conflict (key) do update set last_at = greatest(k.last_at, excluded.last_at)
		)
		update login_failures set failures = failures - 1, last_at = $4::timestamptz - least(($5::float8[])[least(greatest(failures - $6, 1), cardinality($5::float8[]))], $7) * interval '1 second'
		where key = $3 and key in (select key from failed)`,
		a.Place, a.Account, address.Key, a.At, s.delays, address.Slack, address.Longest.Seconds())
	if err != nil {
		return fmt.Errorf("delete failed attempts: %w", err)
	}
	return nil
}

// registrations implements agent.Registrations on the table of that name.
type registrations struct{ db *pg.DB }

// Registrations returns the store of the counts of registrations.
func Registrations(db *pg.DB) agent.Registrations { return registrations{db} }

// Create counts a registration. The first one begins the hour.
func (s registrations) Create(ctx context.Context, key []byte, at time.Time, limit int) (time.Duration, error) {
	var count int
	var began time.Time
	err := s.db.Conn(ctx).QueryRow(ctx, `
		insert into registrations as r (key, began, count) values ($1, $2, 1) on conflict (key) do update set
			began = case when r.began > $2 - interval '1 hour' then r.began else $2 end,
			count = case when r.began > $2 - interval '1 hour' then least(r.count + 1, $3 + 1) else 1 end
		returning count, began`, key, at, limit).Scan(&count, &began)
	if err != nil {
		return 0, fmt.Errorf("count a registration: %w", err)
	}
	if count <= limit {
		return 0, nil
	}
	return began.Add(time.Hour).Sub(at), nil
}
