package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/leadimport"
)

// Import is the kind of job that imports or reverts the leads of a file.
const Import job.Kind = "crm.import"

// imports implements leadimport.Store and leadimport.Batches on the tables imports, import_rows and import_leads.
type imports struct {
	job.Leases
	table *table.Table[leadimport.Import]
	rows  *table.Table[row]
	db    *pg.DB
}

// row is a row of import_rows as a list shows it.
type row struct {
	importID string
	leadimport.Result
}

// Imports returns the store of imports.
func Imports(db *pg.DB, jobs *job.Queue) interface {
	leadimport.Store
	leadimport.Batches
} {
	type i = leadimport.Import
	return imports{db: db, Leases: job.NewLeases(db, Import, "imports"),
		table: table.New(db, nil, table.Spec[i]{
			Name: "imports",
			Columns: func(i *i) table.Columns {
				return table.Columns{
					table.Fixed("id", &i.ID), table.Fixed("agent_id", &i.AgentID), table.Fixed("team", &i.Team), table.Col("state", &i.State),
					table.Col("dry_run", &i.DryRun), table.Col("distribute", &i.Distribute), table.Col("total", &i.Total), table.Col("created", &i.Created),
					table.Col("updated", &i.Updated), table.Col("merged", &i.Merged), table.Col("skipped", &i.Skipped), table.Col("reverted", &i.Reverted),
					table.Col("retained", &i.Retained), table.Col("lease_epoch", &i.Epoch), table.Col("lease_holder", &i.Holder),
					table.Remaining("lease_until", &i.Left), table.Col("lease_attempts", &i.Attempts), table.Col("lease_failures", &i.Failures),
					table.Col("version", &i.Version), table.Fixed("created_at", &i.CreatedAt), table.Col("finished_at", &i.FinishedAt),
				}
			},
			Order:   table.Newest(func(i i) time.Time { return i.CreatedAt }, func(i i) string { return i.ID }),
			Missing: leadimport.NotFound,
			Save:    func(ctx context.Context, _, i *i) error { return jobs.Insert(ctx, Import, i.ID, i.Lease) },
		}),
		rows: table.New(db, nil, table.Spec[row]{
			Name: "import_rows",
			Columns: func(r *row) table.Columns {
				return table.Columns{
					table.Fixed("import_id", &r.importID), table.Fixed("line", &r.Line), table.Fixed("result", &r.Result.Result), table.Fixed("reason", &r.Reason),
					table.Fixed("lead_id", &r.LeadID), table.Fixed("reverted", &r.Reverted),
				}
			},
			Order:   table.Order[row]{Keys: []table.Key[row]{{Name: "line", Type: "bigint", Of: func(r row) any { return r.Line }}}},
			Missing: leadimport.NotFound,
		}),
	}
}

func (s imports) Create(ctx context.Context, i leadimport.Import) error {
	_, err := s.table.Create(ctx, &i, "")
	return err
}

func (s imports) Find(ctx context.Context, id string) (leadimport.Import, error) {
	return s.table.Find(ctx, id)
}

func (s imports) Change(ctx context.Context, id string, fn func(*leadimport.Import) error) (leadimport.Import, error) {
	return s.table.Change(ctx, id, func(i *leadimport.Import) ([]event.Event, error) {
		if err := fn(i); err != nil {
			return nil, err
		}
		i.Version++
		return nil, nil
	})
}

func (s imports) Remove(ctx context.Context, id string) error {
	return s.table.Remove(ctx, id, func(*leadimport.Import) ([]event.Event, error) { return nil, nil })
}

// Stage adds rows in one statement.
func (s imports) Stage(ctx context.Context, importID string, rows []leadimport.Staged) error {
	if len(rows) == 0 {
		return nil
	}
	n := len(rows)
	lines, phones, data, results, reasons := make([]int, n), make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n)
	for i, r := range rows {
		lines[i], phones[i] = r.Line, r.Data.Phone
		if r.Result != "" {
			results[i], reasons[i], phones[i] = &rows[i].Result, &rows[i].Reason, nil
			continue
		}
		raw, err := json.Marshal(r.Data)
		if err != nil {
			return fmt.Errorf("marshal line %d: %w", r.Line, err)
		}
		data[i] = new(string(raw))
	}
	if _, err := s.db.Conn(ctx).Exec(ctx, `
		insert into import_rows (import_id, line, phone, data, result, reason)
		select $1, line, phone, data::jsonb, result, reason from unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[]) as r (line, phone, data, result, reason)`,
		importID, lines, phones, data, results, reasons); err != nil {
		return fmt.Errorf("insert %d rows of import %s: %w", n, importID, pg.Classify(err))
	}
	return nil
}

// ListRows reads a page of the report.
func (s imports) ListRows(ctx context.Context, importID, result string, r page.Request) (page.Of[leadimport.Result], error) {
	var w table.Where
	w.And("import_id = ?", importID)
	w.If(result != "", "result = ?", result)
	found, err := s.rows.List(ctx, w, r)
	return page.Map(found, func(r row) leadimport.Result { return r.Result }), err
}

// Earlier finds the first lines with these numbers.
func (s imports) Earlier(ctx context.Context, importID string, phones []string, before int) (map[string]int, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, `
		select phone, min(line) from import_rows where import_id = $1 and phone = any($2) and line < $3 and result <> 'skipped' group by phone`, importID, phones, before)
	if err != nil {
		return nil, fmt.Errorf("find earlier rows of import %s: %w", importID, pg.Classify(err))
	}
	lines, phone, line := map[string]int{}, "", 0
	if _, err := pgx.ForEachRow(rows, []any{&phone, &line}, func() error {
		lines[phone] = line
		return nil
	}); err != nil {
		return nil, fmt.Errorf("find earlier rows of import %s: %w", importID, pg.Classify(err))
	}
	return lines, nil
}

// held renews the lease of the worker with this epoch, and runs fn for its import, in one transaction.
func (s imports) held(ctx context.Context, id string, epoch int64, ttl time.Duration, fn func(context.Context, *leadimport.Import) (bool, error)) (more bool, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		if err := s.Renew(ctx, id, epoch, ttl); err != nil {
			return err
		}
		_, err := s.Change(ctx, id, func(i *leadimport.Import) (err error) {
			more, err = fn(ctx, i)
			return err
		})
		return err
	})
	return more, pg.Classify(err)
}

// Rows gives fn the next rows.
func (s imports) Rows(ctx context.Context, id string, epoch int64, ttl time.Duration, limit int, fn func(context.Context, *leadimport.Import, []leadimport.Staged) ([]leadimport.Touched, error)) (bool, error) {
	return s.held(ctx, id, epoch, ttl, func(ctx context.Context, i *leadimport.Import) (bool, error) {
		found, err := s.db.Conn(ctx).Query(ctx, `select line, data from import_rows where import_id = $1 and result is null order by line limit $2`, id, limit)
		if err != nil {
			return false, fmt.Errorf("read rows of import %s: %w", id, err)
		}
		rows, err := pgx.CollectRows(found, func(r pgx.CollectableRow) (row leadimport.Staged, err error) {
			return row, r.Scan(&row.Line, &row.Data)
		})
		if err != nil || len(rows) == 0 {
			return false, err
		}
		touched, err := fn(ctx, i, rows)
		if err == nil {
			err = s.saveRows(ctx, id, rows)
		}
		if err == nil {
			err = s.saveTouched(ctx, id, touched)
		}
		return true, err
	})
}

func (s imports) saveRows(ctx context.Context, id string, rows []leadimport.Staged) error {
	n := len(rows)
	lines, results, reasons, leads := make([]int, n), make([]string, n), make([]*string, n), make([]*string, n)
	for i, r := range rows {
		lines[i], results[i], leads[i] = r.Line, r.Result, r.LeadID
		if r.Reason != "" {
			reasons[i] = &rows[i].Reason
		}
	}
	if _, err := s.db.Conn(ctx).Exec(ctx, `
		update import_rows r set result = v.result, reason = v.reason, lead_id = v.lead_id::uuid, data = null
		from unnest($2::int[], $3::text[], $4::text[], $5::text[]) as v (line, result, reason, lead_id) where r.import_id = $1 and r.line = v.line`,
		id, lines, results, reasons, leads); err != nil {
		return fmt.Errorf("store the results of import %s: %w", id, err)
	}
	return nil
}

func (s imports) saveTouched(ctx context.Context, id string, touched []leadimport.Touched) error {
	if len(touched) == 0 {
		return nil
	}
	n := len(touched)
	leads, lines, versions, before := make([]string, n), make([]int, n), make([]int64, n), make([]*string, n)
	for i, t := range touched {
		leads[i], lines[i], versions[i] = t.LeadID, t.Line, t.Version
		if t.Before != nil {
			before[i] = new(string(t.Before))
		}
	}
	if _, err := s.db.Conn(ctx).Exec(ctx, `
		insert into import_leads (import_id, lead_id, line, version, before)
		select $1, lead_id, line, version, before::jsonb from unnest($2::uuid[], $3::int[], $4::bigint[], $5::text[]) as t (lead_id, line, version, before)
		on conflict (import_id, lead_id) do update set version = excluded.version`, id, leads, lines, versions, before); err != nil {
		return fmt.Errorf("store the leads of import %s: %w", id, err)
	}
	return nil
}

// Leads gives fn the next leads to revert. They are removed from the import, so that each is tried once.
func (s imports) Leads(ctx context.Context, id string, epoch int64, ttl time.Duration, limit int, fn func(context.Context, *leadimport.Import, []leadimport.Touched) ([]bool, error)) (bool, error) {
	return s.held(ctx, id, epoch, ttl, func(ctx context.Context, i *leadimport.Import) (bool, error) {
		found, err := s.db.Conn(ctx).Query(ctx, `select lead_id::text, line, version, before from import_leads where import_id = $1 order by lead_id limit $2`, id, limit)
		if err != nil {
			return false, fmt.Errorf("read leads of import %s: %w", id, err)
		}
		touched, err := pgx.CollectRows(found, func(r pgx.CollectableRow) (t leadimport.Touched, err error) {
			return t, r.Scan(&t.LeadID, &t.Line, &t.Version, &t.Before)
		})
		if err != nil || len(touched) == 0 {
			return false, err
		}
		reverted, err := fn(ctx, i, touched)
		if err != nil {
			return false, err
		}
		ids := make([]string, len(touched))
		for n, t := range touched {
			ids[n] = t.LeadID
		}
		conn := s.db.Conn(ctx)
		if _, err := conn.Exec(ctx, `
			update import_rows r set reverted = v.reverted from unnest($2::uuid[], $3::bool[]) as v (lead_id, reverted)
			where r.import_id = $1 and r.lead_id = v.lead_id and r.result <> 'skipped'`, id, ids, reverted); err != nil {
			return false, fmt.Errorf("store what was reverted of import %s: %w", id, err)
		}
		if _, err := conn.Exec(ctx, `delete from import_leads where import_id = $1 and lead_id = any($2::uuid[])`, id, ids); err != nil {
			return false, fmt.Errorf("remove leads from import %s: %w", id, err)
		}
		return true, nil
	})
}

// eraseRows erases what rows of imports have of deleted leads: rows with their id or number, also those of another number that they
// once had. A row that waits becomes empty, so that it is skipped.
func eraseRows(ctx context.Context, db *pg.DB, changes []table.Change[lead.Lead]) error {
	var ids, phones, raw []string
	for _, c := range changes {
		if c.After != nil {
			continue
		}
		ids = append(ids, c.Before.ID)
		if c.Before.Phone != nil {
			phones = append(phones, *c.Before.Phone)
		}
		if c.Before.RawPhone != nil {
			raw = append(raw, *c.Before.RawPhone)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := db.Conn(ctx).Exec(ctx, `
		update import_rows set phone = null, data = case when result is null then '{}'::jsonb end
		where phone = any($2) or lead_id = any($1::text[]::uuid[]) or result is null and data->>'lead_id' <> '' and data->>'lead_id' = any($1)
			or result is null and data->>'raw_phone' is not null and data->>'raw_phone' = any($3)`, ids, phones, raw)
	if err != nil {
		return fmt.Errorf("erase the imported rows of %d leads: %w", len(ids), pg.Classify(err))
	}
	return nil
}

// RemoveStaged removes imports whose file never arrived completely, and old ones.
func (s imports) RemoveStaged(ctx context.Context, age, retention time.Duration) error {
	if _, err := s.db.Conn(ctx).Exec(ctx, `
		delete from imports where created_at < now() - $2::interval and state not in ('running', 'reverting') or state = 'staging' and created_at < now() - $1::interval`,
		age, retention); err != nil {
		return fmt.Errorf("remove old imports: %w", pg.Classify(err))
	}
	return nil
}
