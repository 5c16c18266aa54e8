package pg

import (
	"context"
	"fmt"
	"time"
)

// OldestTransaction returns the age of the oldest open transaction of the service, of all its replicas; 0 without any. A transaction
// that stays open holds locks, and keeps vacuum from removing any row that was deleted since. A role sees only its own sessions.
func (db *DB) OldestTransaction(ctx context.Context) (age time.Duration, err error) {
	err = db.Conn(ctx).QueryRow(ctx, `
		select coalesce(max(clock_timestamp() - xact_start), interval '0') from pg_stat_activity
		where datname = current_database() and application_name = current_setting('application_name') and pid <> pg_backend_pid()`).Scan(&age)
	if err != nil {
		return 0, fmt.Errorf("find the oldest transaction: %w", err)
	}
	return age, nil
}
