package pg

import (
	"context"
	"fmt"
	"time"
)

// State is what an operator wants to know of the database.
type State struct {
	Version           string
	VersionNumber     int       // such as 170006
	Now               time.Time // of its clock
	Connections       int
	MaxConnections    int
	OldestTransaction time.Duration // as far as the role may see it
	InvalidIndexes    []string      // of the schema
}

// Inspect reads the state of the database.
func (db *DB) Inspect(ctx context.Context) (s State, err error) {
	err = db.pool.QueryRow(ctx, `
		select current_setting('server_version'), current_setting('server_version_num')::int,
			(select count(*) from pg_stat_activity where backend_type = 'client backend'), current_setting('max_connections')::int,
			coalesce((select max(clock_timestamp() - xact_start) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()), '0')::interval,
			array(select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
				where n.nspname = $1 and not i.indisvalid),
			clock_timestamp()`, db.schema).
		Scan(&s.Version, &s.VersionNumber, &s.Connections, &s.MaxConnections, &s.OldestTransaction, &s.InvalidIndexes, &s.Now)
	if err != nil {
		return s, fmt.Errorf("read the state of the database: %w", err)
	}
	return s, nil
}
