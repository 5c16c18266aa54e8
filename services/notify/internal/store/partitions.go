package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// Partitions adds and drops the partitions of deliveries and attempts. Each has the rows of one week, by the time in their ids.
type Partitions struct {
	db        *pg.DB
	retention time.Duration
}

// NewPartitions returns the partitions of deliveries that are stored that long after they were created.
func NewPartitions(db *pg.DB, retention time.Duration) *Partitions { return &Partitions{db, retention} }

const (
	week    = 7 * 24 * time.Hour
	advance = 4 * week // for which there are partitions
	// maxLockWait limits the wait for the tables: all other statements wait behind one that waits for an exclusive lock.
	maxLockWait = 2 * time.Second
)

// Upkeep adds the partitions of the weeks to come, and drops those whose deliveries are older than the retention, unless one is waiting
// or held. It is safe to repeat, and to run on several replicas.
func (p *Partitions) Upkeep(ctx context.Context) error {
	return pg.Classify(p.db.InTx(ctx, func(ctx context.Context) error {
		if err := p.exec(ctx, fmt.Sprintf("set local lock_timeout = %d", maxLockWait.Milliseconds())); err != nil {
			return err
		}
		if err := p.exec(ctx, "select pg_advisory_xact_lock(hashtext('notify.partitions'))"); err != nil { // one replica at a time
			return err
		}
		var now time.Time
		if err := p.db.Conn(ctx).QueryRow(ctx, "select now()").Scan(&now); err != nil {
			return fmt.Errorf("read the database's clock: %w", err)
		}
		existing, err := p.list(ctx)
		if err != nil {
			return err
		}
		for from := existing[len(existing)-1].end; from.Before(now.Add(advance)); from = from.Add(week) {
			if err := p.add(ctx, from); err != nil {
				return err
			}
		}
		for _, old := range existing {
			if old.end.After(now.Add(-p.retention)) {
				break
			}
			if err := p.drop(ctx, old.suffix); err != nil {
				return err
			}
		}
		return nil
	}))
}

// forgetLimit is the maximum number of rows that one statement deletes, so that none holds locks for long.
const forgetLimit = 5000

// Forget deletes the events that are older than all those that are delivered (delivery.MaxAge), so that none has a second delivery.
func (p *Partitions) Forget(ctx context.Context) error {
	for {
		tag, err := p.db.Conn(ctx).Exec(ctx, `delete from seen where ctid = any(array(
			select ctid from seen where event_id < first_delivery_id(now() - $1::interval) limit $2))`, delivery.MaxAge+24*time.Hour, forgetLimit)
		if err != nil {
			return fmt.Errorf("forget old events: %w", pg.Classify(err))
		}
		if tag.RowsAffected() < forgetLimit {
			return nil
		}
	}
}

// partition is one of deliveries. Its name ends like that of the partition of its attempts.
type partition struct {
	suffix string
	end    time.Time // of the ids in it
}

// list returns the partitions in the order of time. There is one at least.
func (p *Partitions) list(ctx context.Context) ([]partition, error) {
	rows, err := p.db.Conn(ctx).Query(ctx, `
		select name, upper from (
			select c.relname::text as name, substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([0-9a-f-]+)') as upper
			from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'deliveries'::regclass) as bounds
		where upper is not null order by upper`)
	if err != nil {
		return nil, fmt.Errorf("list the partitions: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (partition, error) {
		var name, upper string
		if err := row.Scan(&name, &upper); err != nil {
			return partition{}, err
		}
		end, err := timeOf(upper)
		return partition{strings.TrimPrefix(name, "deliveries_"), end}, err
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("there is none")
	}
	if err != nil {
		return nil, fmt.Errorf("list the partitions: %w", err)
	}
	return found, nil
}

// timeOf returns the time in a UUIDv7: the milliseconds in its first 48 bits.
func timeOf(id string) (time.Time, error) {
	ms, err := strconv.ParseInt(strings.ReplaceAll(id, "-", "")[:12], 16, 64)
	return time.UnixMilli(ms).UTC(), err
}

// firstID returns the lowest UUIDv7 of a time.
func firstID(at time.Time) string {
	ms := fmt.Sprintf("%012x", at.UnixMilli())
	return ms[:8] + "-" + ms[8:] + "-0000-0000-000000000000"
}

// add adds the partitions of the week that begins then. Unlike "create table … partition of" it does not lock out readers and writers.
func (p *Partitions) add(ctx context.Context, from time.Time) error {
	suffix := from.Format("20060102")
	for table, options := range map[string]string{"deliveries": "with (fillfactor = 50, toast_tuple_target = 256)", "attempts": ""} {
		name := table + "_" + suffix
		if err := p.exec(ctx, fmt.Sprintf(`create table %s (like %s including defaults including constraints) %s`, name, table, options)); err != nil {
			return err
		}
		if err := p.exec(ctx, fmt.Sprintf(`alter table %s attach partition %s for values from ('%s') to ('%s')`, table, name, firstID(from), firstID(from.Add(week)))); err != nil {
			return err
		}
	}
	return nil
}

// drop drops a partition, unless a delivery in it has not ended.
func (p *Partitions) drop(ctx context.Context, suffix string) error {
	var open bool
	if err := p.db.Conn(ctx).QueryRow(ctx, `select exists (select from deliveries_`+suffix+` where status not in ('delivered', 'dead'))`).Scan(&open); err != nil {
		return fmt.Errorf("look for waiting deliveries in the partition %s: %w", suffix, err)
	}
	if open {
		return nil
	}
	return p.exec(ctx, fmt.Sprintf("drop table deliveries_%s, attempts_%s", suffix, suffix))
}

func (p *Partitions) exec(ctx context.Context, statement string) error {
	if _, err := p.db.Conn(ctx).Exec(ctx, statement); err != nil {
		return fmt.Errorf("%.60s…: %w", statement, err)
	}
	return nil
}
