// Package store stores agents, sessions, failed logins and sealed signing keys in PostgreSQL. It has no business rules: the
// domain decides what changes. A change and its events are one transaction.
package store

import (
	"context"
	"embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations returns the migrations of auth.
func Migrations() pg.Migrations { return pg.Embedded("auth", files) }

// batch is how many rows one statement of Sweep deletes at most, so that it holds its locks for milliseconds only.
const batch = 1000

// Sweep deletes rows that no longer have an effect: sessions that cannot be renewed and whose last access token, which lived
// for tokenTTL, has expired; revocations that no token is left for; failed logins and registrations that no longer count; and
// networks that are no longer known.
func Sweep(ctx context.Context, db *pg.DB, out *outbox.Outbox, now time.Time, tokenTTL time.Duration) error {
	if err := sweepRevocations(ctx, db, out, now, tokenTTL); err != nil {
		return err
	}
	for _, expired := range []struct {
		what, sql string
		args      []any
	}{
		{"sessions", `delete from sessions where id in (select id from sessions where (created_at < $1 or last_used_at < $2) and last_used_at < $3 limit $4)`,
			[]any{now.Add(-agent.MaxLife), now.Add(-agent.MaxIdle), now.Add(-tokenTTL - time.Minute), batch}},
		{"failed logins", `delete from login_failures where key in (select key from login_failures where last_at < $1 limit $2 for update skip locked)`,
			[]any{now.Add(-agent.FailureWindow), batch}},
		{"known networks", `delete from known_networks where key in (select key from known_networks where last_at < $1 limit $2 for update skip locked)`,
			[]any{now.Add(-agent.KnownFor), batch}},
		{"counts of registrations", `delete from registrations where key in (select key from registrations where began < $1 limit $2 for update skip locked)`,
			[]any{now.Add(-time.Hour), batch}},
	} {
		for more := true; more; {
			tag, err := db.Conn(ctx).Exec(ctx, expired.sql, expired.args...)
			if err != nil {
				return fmt.Errorf("delete old %s: %w", expired.what, err)
			}
			more = tag.RowsAffected() == batch
		}
	}
	return nil
}

// sweepRevocations deletes the revocations that no token is left for. It publishes a tombstone for each session and each erased agent,
// so that the compacted topic does not retain them for ever.
func sweepRevocations(ctx context.Context, db *pg.DB, out *outbox.Outbox, now time.Time, tokenTTL time.Duration) error {
	for more := true; more; {
		err := db.InTx(ctx, func(ctx context.Context) error {
			// Verifiers accept tokens after their expiry for less than 10 min.
			rows, err := db.Conn(ctx).Query(ctx, `
				delete from revocations where id in (select id from revocations
					where changed_at < $1::timestamptz - greatest($2::interval, (select max(token_ttl) from signing_keys)) - interval '10 minutes' limit $3)
				returning id::text, version = 0, not exists (select from agents a where a.id = revocations.id)`, now, tokenTTL, batch)
			if err != nil {
				return err
			}
			deleted, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
				ID                  string
				IsSession, IsErased bool
			}])
			if err != nil {
				return err
			}
			var tombstones []event.Event
			for _, d := range deleted {
				switch {
				case d.IsSession:
					tombstones = append(tombstones, events.SessionRevoked.Tombstone(now, d.ID))
				case d.IsErased: // the newest state of any other agent remains
					tombstones = append(tombstones, events.AgentDeactivated.Tombstone(now, d.ID))
				}
			}
			more = len(deleted) == batch
			return out.Append(ctx, tombstones...)
		})
		if err != nil {
			return fmt.Errorf("delete old revocations: %w", err)
		}
	}
	return nil
}
