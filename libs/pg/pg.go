// Package pg connects a service to its PostgreSQL schema: a pool with timeouts, transactions that are passed in the context,
// and migrations under a lock. It refuses to know any table.
package pg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/pgxpoolprometheus"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Config says how to connect to the database.
type Config struct {
	URL      conf.Secret `env:"DATABASE_URL"`       // postgres://user:password@host:port/database?…
	MaxConns int32       `env:"DATABASE_MAX_CONNS"` // largest number of connections of this process
}

// Defaults allows 10 connections: on the 2 to 4 cores of a pod, more of them only wait for each other.
func Defaults() Config { return Config{MaxConns: 10} }

// Check lists the problems with the configuration. It does not quote the URL, which contains a password.
func (c Config) Check() []string {
	var problems []string
	if c.URL == "" {
		problems = append(problems, "DATABASE_URL is not set: postgres://user:password@host:5432/database")
	} else if _, err := pgxpool.ParseConfig(c.URL.Reveal()); err != nil {
		problems = append(problems, "DATABASE_URL is not a PostgreSQL URL (postgres://user:password@host:5432/database)")
	}
	if c.MaxConns < 2 {
		problems = append(problems, "DATABASE_MAX_CONNS must be 2 or more: one connection leads the outbox")
	}
	return problems
}

// Limits that keep one bad statement from blocking others. The longest statement of a request takes milliseconds.
const (
	statementTimeout = 15 * time.Second
	lockTimeout      = 5 * time.Second
	idleInTxTimeout  = 30 * time.Second
	connectTimeout   = 5 * time.Second
	startTimeout     = 30 * time.Second // how long Open waits for a database that is still starting
)

// Querier is a pool or a transaction.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error)
}

// DB is one service's schema. It is safe for concurrent use.
type DB struct {
	pool   *pgxpool.Pool
	schema string
	tel    telemetry.Set
}

// Open connects to the service's schema. It waits up to 30 s for a database that is still starting. A search_path in the URL
// overrides schema; each test uses that to have a schema of its own.
func Open(ctx context.Context, cfg Config, schema string, tel telemetry.Set) (*DB, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL.Reveal())
	if err != nil {
		return nil, errors.New("DATABASE_URL is not a PostgreSQL URL")
	}
	params := pc.ConnConfig.RuntimeParams
	if params["search_path"] == "" {
		params["search_path"] = schema
	}
	params["application_name"] = "convoflow-" + tel.Service
	params["timezone"] = "UTC"
	params["statement_timeout"] = milliseconds(statementTimeout)
	params["lock_timeout"] = milliseconds(lockTimeout)
	params["idle_in_transaction_session_timeout"] = milliseconds(idleInTxTimeout)
	pc.ConnConfig.ConnectTimeout = connectTimeout
	pc.ConnConfig.Tracer = newTracer(pc.ConnConfig, tel)
	pc.MaxConns = cfg.MaxConns
	pc.MaxConnLifetime = 30 * time.Minute
	pc.MaxConnLifetimeJitter = 5 * time.Minute
	// By default, pgx returns times in the local time zone.
	pc.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}})
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("create the database pool: %w", err)
	}
	db := &DB{pool: pool, schema: params["search_path"], tel: tel}
	if err := db.await(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	if err := tel.Metrics.Register(pgxpoolprometheus.NewCollector(pool, map[string]string{"service": tel.Service})); err != nil {
		var twice prometheus.AlreadyRegisteredError
		if !errors.As(err, &twice) {
			pool.Close()
			return nil, fmt.Errorf("register the pool's metrics: %w", err)
		}
	}
	return db, nil
}

func (db *DB) await(starting context.Context) error {
	ctx, cancel := context.WithTimeout(starting, startTimeout)
	defer cancel()
	for logged := false; ; {
		err := db.pool.Ping(ctx)
		var refused *pgconn.PgError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &refused) && !transient(refused.Code):
			return fmt.Errorf("connect to the database: %s (SQLSTATE %s)", refused.Message, refused.Code)
		case starting.Err() != nil: // the process is stopping
			return fmt.Errorf("wait for the database: %w", starting.Err())
		case ctx.Err() != nil:
			return fmt.Errorf("no database within %s: is DATABASE_URL right and PostgreSQL running?", startTimeout)
		case !logged:
			db.tel.Log.InfoContext(ctx, "waiting for the database")
			logged = true
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Close waits until all connections are returned to the pool, and closes them.
func (db *DB) Close() { db.pool.Close() }

// Ping checks that the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.pool.Ping(ctx) }

// Pool returns the underlying pool, for libraries that need one.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Schema returns the name of the service's schema.
func (db *DB) Schema() string { return db.schema }

// Conn returns the transaction in ctx, or the pool if there is none.
func (db *DB) Conn(ctx context.Context) Querier {
	if t, ok := ctx.Value(txKey{db}).(*transaction); ok {
		return t
	}
	return db.pool
}

func milliseconds(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }
