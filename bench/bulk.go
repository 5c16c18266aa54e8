package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
)

const (
	bulkLeads = 500 // the maximum of one request
	// importMemory is what an import may need besides, in MB.
	importMemory = 64
	importPoll   = 100 * time.Millisecond
	// importTimeout is for the largest file on a busy machine.
	importTimeout = 15 * time.Minute
)

// plainUpdate changes the leads of an array as a bulk change does, without events, counts and timelines.
const plainUpdate = `update crm.leads set status = $2, version = version + 1, updated_at = now() where id = any($1::uuid[])`

// bulk measures crm alone where it writes many leads at once: an import and bulk changes.
func bulk(ctx context.Context, b *bench) (results []report.Result, err error) {
	b.printf("bulk: an import of %d rows, and changes of %d leads, in crm", b.Rows, bulkLeads)
	l, err := b.startCRM(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	speed, memory, err := b.imports(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	change, err := b.bulkChange(ctx, l)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", change.Name, err)
	}
	return []report.Result{speed, memory, change}, nil
}

// imports imports a new file in each round, whose rows are all new leads, and compares it with a COPY of as many rows into the table.
// The memory is by how much the peak of crm grows, from one after a small import.
func (b *bench) imports(ctx context.Context, l *leadBench) (speed, memory report.Result, err error) {
	b.printf("  import: rows per second ÷ those of COPY; memory: the growth of crm's peak ÷ %d MB", importMemory)
	speed = report.Result{Name: "import", Peer: "COPY", Unit: "rows/s", Floor: 0.1, Goal: 0.25}
	memory = report.Result{Name: "import memory", Peer: "limit", Unit: "MB", Floor: 1, Goal: 0.5}
	if err := l.importFile(ctx, bulkLeads); err != nil {
		return speed, memory, err
	}
	conn, err := pgx.Connect(ctx, l.postgres.URL())
	if err != nil {
		return speed, memory, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	base, err := l.crm.PeakMemory()
	if err != nil {
		return speed, memory, err
	}
	database := part{"PostgreSQL", l.postgres}
	timed := func(do func(context.Context, int) error) func() (int, time.Duration, error) {
		return func() (int, time.Duration, error) {
			took := clock.Stopwatch()
			err := do(ctx, b.Rows)
			return b.Rows, took(), err
		}
	}
	copyRows := func(ctx context.Context, rows int) error { return l.copyLeads(ctx, conn, rows) }
	speed, err = b.rounds(ctx, speed, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() (err error) {
			round.Ours, err = observeParts([]part{{"crm", l.crm}, database}, process.Any, timed(l.importFile))
			return err
		}, func() (err error) {
			round.Peer, err = observeParts([]part{database}, process.Any, timed(copyRows))
			return err
		})
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
	if err != nil {
		return speed, memory, err
	}
	peak, err := l.crm.PeakMemory()
	if err != nil {
		return speed, memory, err
	}
	const mb = 1 << 20
	grown := report.Round{Ours: report.Measure{Value: float64(peak-base) / mb}, Peer: report.Measure{Value: importMemory}}
	grown.Ratio = grown.Ours.Value / grown.Peer.Value
	memory.Rounds, memory.Ratio = []report.Round{grown}, grown.Ratio
	memory.Notes = append(memory.Notes, fmt.Sprintf("the peak was %d MB after an import of %d rows and %d MB after those of %d", base/mb, bulkLeads, peak/mb, b.Rows))
	return speed, memory, nil
}

// importFile imports a file of new leads and waits until each row is one.
func (l *leadBench) importFile(ctx context.Context, rows int) error {
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	var file bytes.Buffer
	form := multipart.NewWriter(&file)
	into, err := form.CreateFormFile("file", "leads.csv")
	if err != nil {
		return err
	}
	_, _ = io.WriteString(into, "name,phone,email,campaign_name,city\n")
	for range rows {
		n := 2_000_000 + l.sequence.Add(1)
		_, _ = fmt.Fprintf(into, "Asha Rao,+1 201%07d,asha%d@example.com,Diwali,Pune\n", n, n)
	}
	if err := form.Close(); err != nil {
		return err
	}
	var made struct {
		ID, State      string
		Total, Created int
	}
	if err := l.post(ctx, "/leads/import", form.FormDataContentType(), file.Bytes(), &made); err != nil {
		return err
	}
	for made.State != "completed" {
		if made.State == "failed" {
			return fmt.Errorf("import %s failed", made.ID)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("import %s is still %s: %w", made.ID, made.State, ctx.Err())
		case <-time.After(importPoll):
		}
		a, err := l.ok(ctx, "/leads/imports/"+made.ID)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(a.body, &made); err != nil {
			return fmt.Errorf("read import %s: %w", made.ID, err)
		}
	}
	if made.Total != rows || made.Created != rows {
		return fmt.Errorf("of %d rows, %d were read and %d are leads", rows, made.Total, made.Created)
	}
	return nil
}

// post sends a body and reads the answer, which must be a success.
func (l *leadBench) post(ctx context.Context, path, contentType string, body []byte, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.crm.url+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("build the request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+l.token)
	request.Header.Set("Content-Type", contentType)
	response, err := l.client.Do(request)
	if err != nil {
		return fmt.Errorf("send the request: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read the response: %w", err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("POST %s returned %d: %.300s", path, response.StatusCode, answer)
	}
	return json.Unmarshal(answer, into)
}

// copyLeads writes rows like those of an import with COPY, in one transaction.
func (l *leadBench) copyLeads(ctx context.Context, conn *pgx.Conn, rows int) error {
	columns := []string{
		"id", "assigned_agent_id", "name", "phone", "email", "source_campaign", "status", "intent_category", "followup_count", "payment_link_sent", "extra_data",
		"call_version", "version", "created_at", "updated_at",
	}
	owner, now := event.NewID(), clock.System{}.Now()
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"crm", "leads"}, columns, pgx.CopyFromSlice(rows, func(int) ([]any, error) {
		n := 2_000_000 + l.sequence.Add(1)
		return []any{
			event.NewID(), owner, "Asha Rao", fmt.Sprintf("+1201%07d", n), fmt.Sprintf("asha%d@example.com", n), "Diwali", "new", "new", 0, false,
			map[string]string{"city": "Pune"}, 0, 1, now, now,
		}, nil
	}))
	return err
}

// bulkChange compares POST /leads/bulk with one UPDATE of the same number of rows.
func (b *bench) bulkChange(ctx context.Context, l *leadBench) (report.Result, error) {
	result := report.Result{Name: fmt.Sprintf("bulk %d", bulkLeads), Peer: "UPDATE", Unit: "µs", Floor: 3, Goal: 1.5}
	b.printf("  %s: p50 of a change of the status ÷ that of a bare UPDATE", result.Name)
	conn, err := pgx.Connect(ctx, l.postgres.URL())
	if err != nil {
		return result, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	found, err := conn.Query(ctx, "select id::text from crm.leads order by id limit $1", bulkLeads)
	if err != nil {
		return result, fmt.Errorf("read leads: %w", err)
	}
	ids, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		return result, fmt.Errorf("read leads: %w", err)
	}
	change := func(ctx context.Context, status string) error {
		body, err := json.Marshal(map[string]any{"lead_ids": ids, "action": "change_status", "status": status})
		if err != nil {
			return err
		}
		var changed struct{ Updated, Failed int }
		if err := l.post(ctx, "/leads/bulk", "application/json", body, &changed); err != nil {
			return err
		}
		if changed.Updated != len(ids) || changed.Failed != 0 {
			return fmt.Errorf("a change of %d leads changed %d and failed for %d", len(ids), changed.Updated, changed.Failed)
		}
		return nil
	}
	update := func(ctx context.Context, status string) error {
		_, err := conn.Exec(ctx, plainUpdate, ids, status)
		return err
	}
	database := part{"PostgreSQL", l.postgres}
	return b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() (err error) {
			round.Ours, err = b.medianTime(ctx, []part{{"crm", l.crm}, database}, alternating(change))
			return err
		}, func() (err error) {
			round.Peer, err = b.medianTime(ctx, []part{database}, alternating(update))
			return err
		})
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
}

// alternating calls a change to one status and back.
func alternating(change func(ctx context.Context, status string) error) func(ctx context.Context, n int) error {
	return func(ctx context.Context, n int) error { return change(ctx, []string{"contacted", "qualified"}[n%2]) }
}
