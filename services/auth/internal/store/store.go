// Package store stores agents, sessions, failed logins and sealed signing keys in PostgreSQL. It has no business rules: the
// domain decides what changes. A change and its events are one transaction.
package store

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/store/migrations"
)

// Migrations returns the migrations of auth.
func Migrations() pg.Migrations { return pg.Migrations{Name: "auth", FS: migrations.Files} }

// batch is how many rows one statement of Sweep deletes at most, so that it holds its locks for milliseconds only.
const batch = 1000

// Sweep deletes rows that no longer have an effect: sessions that cannot be renewed and whose last access token, which lived
// for tokenTTL, has expired; revocations that no token is left for; failed logins and
// registrations that no longer count; and networks that are no longer known.
func Sweep(ctx context.Context, db *pg.DB, now time.Time, tokenTTL time.Duration) error {
	for _, expired := range []struct {
		what, sql string
		args      []any
	}{
		{"sessions", `delete from sessions where id in (select id from sessions where (created_at < $1 or last_used_at < $2) and last_used_at < $3 limit $4)`,
			[]any{now.Add(-agent.MaxLife), now.Add(-agent.MaxIdle), now.Add(-tokenTTL - time.Minute), batch}},
		// 10 min are more than verifiers accept tokens after their end.
		{"revocations", `delete from revocations where id in (select id from revocations
			where changed_at < $1::timestamptz - greatest($2::interval, (select max(token_ttl) from signing_keys)) - interval '10 minutes' limit $3)`,
			[]any{now, tokenTTL, batch}},
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
