package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// changes implements call.Changes on the table changes.
type changes struct{ db *pg.DB }

// Changes returns the store of changes.
func Changes(db *pg.DB) call.Changes { return changes{db} }

// visible selects the changes that none can be committed before any more. The transactions of other programs in the same cluster count
// too, and may take hours: a change waits 5 s for them at most, which is longer than any of ours takes while the database is well.
const visible = "(tx < pg_snapshot_xmin(pg_current_snapshot()) or at < now() - interval '5 seconds')"

// Head returns the position of the newest change.
func (s changes) Head(ctx context.Context) (position string, err error) {
	err = s.db.Conn(ctx).QueryRow(ctx, `select coalesce((select tx || '-' || n from changes where `+visible+` order by tx desc, n desc limit 1), '')`).Scan(&position)
	if err != nil {
		return "", fmt.Errorf("find the newest change: %w", pg.Classify(err))
	}
	return position, nil
}

// parse returns the transaction and number of a position.
func parse(position string) (tx string, n int64, ok bool) {
	tx, rest, _ := strings.Cut(position, "-")
	if _, err := strconv.ParseUint(tx, 10, 64); err != nil {
		return "", 0, false
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	return tx, n, err == nil
}

// Has reports whether there is a change with that position.
func (s changes) Has(ctx context.Context, position string) (found bool, err error) {
	tx, n, ok := parse(position)
	if !ok {
		return false, nil
	}
	err = s.db.Conn(ctx).QueryRow(ctx, `select exists (select from changes where tx = $1::text::xid8 and n = $2 and `+visible+`)`, tx, n).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("find a change: %w", pg.Classify(err))
	}
	return found, nil
}

// List reads changes in the order of their commits.
func (s changes) List(ctx context.Context, f call.ChangeFilter, after string, limit int) ([]call.Change, error) {
	var w table.Where
	w.And(visible)
	if tx, n, ok := parse(after); ok {
		w.And("(tx, n) > (?::text::xid8, ?)", tx, n)
	}
	w.If(f.CallID != "", "call_id = ?", f.CallID)
	w.If(f.AgentID != "", "agent_id = ?", f.AgentID)
	rows, err := s.db.Conn(ctx).Query(ctx, `select tx || '-' || n, change from changes`+w.String()+` order by tx, n limit `+strconv.Itoa(limit), w.Args()...)
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", pg.Classify(err))
	}
	found, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c call.Change, err error) {
		var position string
		err = r.Scan(&position, &c)
		c.Position = position
		return c, err
	})
	return found, pg.Classify(err)
}

// Clean removes old changes.
func (s changes) Clean(ctx context.Context, age time.Duration) error {
	if _, err := s.db.Conn(ctx).Exec(ctx, `delete from changes where at < now() - $1::interval`, age); err != nil {
		return fmt.Errorf("remove old changes: %w", pg.Classify(err))
	}
	return nil
}

// recordChanges writes what streams show of the changes of calls.
func (s *calls) recordChanges(ctx context.Context, all []table.Change[record]) error {
	for _, c := range all {
		if c.Before != nil && c.After != nil && c.Before.Version == c.After.Version {
			continue // nothing that a response shows
		}
		row := c.After
		if row == nil {
			row = c.Before
		}
		change := call.ChangeOf(row.domain())
		if c.After == nil {
			change.Version++
			change.Deleted = true
		}
		if _, err := s.db.Conn(ctx).Exec(ctx, `insert into changes (call_id, agent_id, change) values ($1, $2, $3)`, change.CallID, change.AgentID, change); err != nil {
			return fmt.Errorf("record the change of call %s: %w", change.CallID, err)
		}
	}
	return nil
}
