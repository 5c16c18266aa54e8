package pg

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// Migrations is one set of embedded SQL files named NNNN_name.sql, in goose's format, forward only. Each set has its own version
// table, so that libs and services number their files independently. A file whose number is lower than one that has run already
// still runs: files that were written side by side must not depend on each other.
type Migrations struct {
	Name string // the version table is migrations_<name>
	FS   fs.FS  // with the files at its root
	// Extra runs after the files, for a library with its own migrations. It may be nil.
	Extra func(ctx context.Context, db *DB) error
}

// Embedded returns the set of the files in the folder migrations of what a package embeds: //go:embed migrations/*.sql.
func Embedded(name string, files embed.FS) Migrations {
	folder, _ := fs.Sub(files, "migrations") // fails only for a path that is not valid
	return Migrations{Name: name, FS: folder}
}

// Migrate migrates the schema to the newest version. One replica at a time does so, and the others wait. A missing schema is
// created if the role is allowed to.
func (db *DB) Migrate(ctx context.Context, sets ...Migrations) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to migrate: %w", err)
	}
	defer conn.Release()
	lock := lockID("migrate " + db.schema)
	// The lock is polled: a session that blocks on it holds a snapshot, and CREATE INDEX CONCURRENTLY waits for every
	// snapshot.
	for held := false; !held; {
		if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", lock).Scan(&held); err != nil {
			return fmt.Errorf("lock to migrate: %w", err)
		}
		if !held {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	defer func() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", lock)
	}()
	if err := db.ensureSchema(ctx, conn); err != nil {
		return err
	}
	// A migration may take longer than the statement timeout of requests.
	sqlDB := db.open("statement_timeout")
	defer func() { _ = sqlDB.Close() }()
	for _, set := range sets {
		if err := db.migrateSet(ctx, sqlDB, set); err != nil {
			return err
		}
	}
	return nil
}

// open returns connections without some of the pool's timeouts.
func (db *DB) open(without ...string) *sql.DB {
	cc := db.pool.Config().ConnConfig.Copy()
	for _, timeout := range without {
		delete(cc.RuntimeParams, timeout)
	}
	cc.ConnectTimeout = startTimeout // no request is waiting
	return stdlib.OpenDB(*cc)
}

func (db *DB) ensureSchema(ctx context.Context, conn Querier) error {
	var exists bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_namespace where nspname = $1)", db.schema).Scan(&exists); err != nil {
		return fmt.Errorf("find schema %s: %w", db.schema, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, "create schema if not exists "+pgx.Identifier{db.schema}.Sanitize()); err != nil {
		return fmt.Errorf("create schema %s (or let an administrator do it: create schema %s authorization <role>): %w", db.schema, db.schema, err)
	}
	return nil
}

func (db *DB) migrateSet(ctx context.Context, sqlDB *sql.DB, set Migrations) error {
	if set.FS != nil {
		indexes, err := set.concurrentIndexes()
		if err != nil {
			return err
		}
		provider, err := set.provider(sqlDB)
		if err != nil {
			return err
		}
		var done []*goose.MigrationResult
		if len(indexes) == 0 {
			done, err = provider.Up(ctx)
		} else {
			done, err = db.migrateOneByOne(ctx, provider, set, indexes)
		}
		if err != nil {
			return fmt.Errorf("migrate %s: %w", set.Name, err)
		}
		for _, m := range done {
			db.tel.Log.InfoContext(ctx, "migrated", "set", set.Name, "version", m.Source.Version, "took", m.Duration)
		}
	}
	if set.Extra != nil {
		if err := set.Extra(ctx, db); err != nil {
			return fmt.Errorf("migrate %s: %w", set.Name, err)
		}
	}
	return nil
}

// provider returns what runs the files of a set.
func (m Migrations) provider(sqlDB *sql.DB) (*goose.Provider, error) {
	p, err := goose.NewProvider(goose.DialectPostgres, sqlDB, m.FS,
		goose.WithTableName("migrations_"+m.Name), goose.WithAllowOutofOrder(true), // branches that are merged in any order
		goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, fmt.Errorf("read the migrations of %s: %w", m.Name, err)
	}
	return p, nil
}

// lockID derives the key of an advisory lock from a name.
func lockID(name string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return int64(h.Sum64())
}

// leaderTimeout is how long a leader may leave its connection idle before the server closes it, and so ends the leadership.
// It is longer than the slowest publish.
const leaderTimeout = time.Minute

// Lead waits until this process holds the named advisory lock of the schema, and returns the connection that holds it. The
// lock ends with the connection, so a leader that dies or loses its connection is no longer the leader. Run the leader's
// statements on this connection. release closes it, which releases the lock.
func (db *DB) Lead(ctx context.Context, name string) (conn *pgx.Conn, release func(), err error) {
	// The server must detect a leader that hangs or is cut off, because the lock is held until its connection closes.
	cc := db.pool.Config().ConnConfig.Copy()
	for name, value := range map[string]string{"idle_session_timeout": milliseconds(leaderTimeout), "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"} {
		cc.RuntimeParams[name] = value
	}
	conn, err = pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to lead %s: %w", name, err)
	}
	release = func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}
	for {
		var held bool
		if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", lockID(name+" "+db.schema)).Scan(&held); err != nil {
			release()
			return nil, nil, fmt.Errorf("try to lead %s: %w", name, err)
		}
		if held {
			return conn, release, nil
		}
		select {
		case <-ctx.Done():
			release()
			return nil, nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// Leader says who holds the named advisory lock of the schema: the application and the address of its connection, or nothing if
// nobody does.
func (db *DB) Leader(ctx context.Context, name string) (holder string, err error) {
	id := uint64(lockID(name + " " + db.schema))
	err = db.pool.QueryRow(ctx, `
		select coalesce(string_agg(format('%s at %s', coalesce(nullif(a.application_name, ''), 'process ' || l.pid), coalesce(host(a.client_addr), 'this machine')), ', '), '')
		from pg_locks l left join pg_stat_activity a using (pid)
		where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.classid = $1::bigint::oid and l.objid = $2::bigint::oid
			and l.database = (select oid from pg_database where datname = current_database())`, int64(id>>32), int64(id&0xffffffff)).Scan(&holder)
	if err != nil {
		return "", fmt.Errorf("find who leads %s: %w", name, err)
	}
	return holder, nil
}
