package pg

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A transaction is a Querier that executes BEGIN and the statements of Later before its own, in the same round trip: a read finds what
// was written before it.

// statement is one that has not been sent.
type statement struct {
	what string // what it does, for the error
	sql  string
	args []any
}

// send sends BEGIN, unless the transaction has begun, the statements of Later, and the given ones, in one round trip. When a statement
// fails, the server skips those after it. It returns the results of the given ones, and fails if one of the others fails.
func (t *transaction) send(ctx context.Context, own ...statement) (pgx.BatchResults, error) {
	var batch pgx.Batch
	var whats []string
	if t.tx == nil {
		batch.BeginTx(pgx.TxOptions{})
		whats = append(whats, "begin a transaction")
	}
	for _, s := range t.later {
		batch.Queue(s.sql, s.args...)
		whats = append(whats, s.what)
	}
	t.later = nil
	for _, s := range own {
		batch.Queue(s.sql, s.args...)
	}
	var results pgx.BatchResults
	if t.tx == nil {
		results = t.conn.SendBatch(ctx, &batch)
		t.tx = results.Tx()
	} else {
		results = t.tx.SendBatch(ctx, &batch)
	}
	for _, what := range whats {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // whose error is the same
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	return results, nil
}

// alone reports whether a statement is sent without others: when none wait, and when pgx has no place for it in a batch. A statement
// without arguments may be several.
func (t *transaction) alone(args []any) bool {
	if t.tx != nil && len(t.later) == 0 || len(args) == 0 {
		return true
	}
	switch args[0].(type) {
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return true
	}
	return false
}

// execLater executes what waits.
func (t *transaction) execLater(ctx context.Context) error {
	if t.tx != nil && len(t.later) == 0 {
		return nil
	}
	results, err := t.send(ctx)
	if err != nil {
		return err
	}
	return results.Close()
}

func (t *transaction) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if t.alone(args) {
		if err := t.execLater(ctx); err != nil {
			return pgconn.CommandTag{}, err
		}
		return t.tx.Exec(ctx, sql, args...)
	}
	results, err := t.send(ctx, statement{sql: sql, args: args})
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := results.Exec()
	if closed := results.Close(); err == nil {
		err = closed
	}
	return tag, err
}

func (t *transaction) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if t.alone(args) {
		if err := t.execLater(ctx); err != nil {
			return nil, err
		}
		return t.tx.Query(ctx, sql, args...)
	}
	results, err := t.send(ctx, statement{sql: sql, args: args})
	if err != nil {
		return nil, err
	}
	rows, err := results.Query()
	last := &lastRows{Rows: rows, results: results}
	if err != nil {
		last.Close()
	}
	return last, err
}

func (t *transaction) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if t.alone(args) {
		if err := t.execLater(ctx); err != nil {
			return failed{err}
		}
		return t.tx.QueryRow(ctx, sql, args...)
	}
	results, err := t.send(ctx, statement{sql: sql, args: args})
	if err != nil {
		return failed{err}
	}
	return lastRow{results}
}

func (t *transaction) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := t.execLater(ctx); err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	return t.tx.SendBatch(ctx, b)
}

func (t *transaction) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, src pgx.CopyFromSource) (int64, error) {
	if err := t.execLater(ctx); err != nil {
		return 0, err
	}
	return t.tx.CopyFrom(ctx, table, columns, src)
}

// lastRows are the rows of the last statement of a batch, which end it.
type lastRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error // of the batch
}

func (r *lastRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *lastRows) Close() {
	r.Rows.Close()
	r.err = r.results.Close()
}

func (r *lastRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

// lastRow is the row of the last statement of a batch, which ends it.
type lastRow struct{ results pgx.BatchResults }

func (r lastRow) Scan(dest ...any) error {
	err := r.results.QueryRow().Scan(dest...)
	if closed := r.results.Close(); err == nil {
		err = closed
	}
	return err
}

// failed is the row of a query that was not sent.
type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }
