package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/bench/internal/postgres"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm"
)

const (
	leadAgents   = 50
	leadsPerPage = 50
	deepPage     = 2000
	// leadWriters is the number of clients that create leads at once, here and in pgbench.
	leadWriters = 8
	// The mixed load: reads and writes per second.
	overviewRate, writeRate = 100, 200
)

// plainInsert is the same row as a created lead, in the same table with the same indexes.
const plainInsert = `insert into leads (id, assigned_agent_id, name, phone, source_campaign, status, intent_category, followup_count, payment_link_sent, extra_data, call_version, version, created_at, updated_at)
	values (gen_random_uuid(), gen_random_uuid(), 'Asha Rao', gen_random_uuid()::text, 'Diwali', 'new', 'new', 0, false, '{}', 0, 1, now(), now())`

// leadBench is crm with a PostgreSQL that has leads.
type leadBench struct {
	environment
	requester
	crm      *service
	postgres *postgres.Server
	dir      string
	sequence atomic.Int64 // of phone numbers
}

// requester sends requests to a service one after another.
type requester struct {
	client *http.Client
	base   string // URL of the service
	token  string // of an admin
}

// leads measures crm alone with many leads: the overview, a deep page of the list, and creating a lead.
func leads(ctx context.Context, b *bench) (results []report.Result, err error) {
	b.printf("leads: crm with %d leads", b.Leads)
	l, err := b.startLeads(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	for _, measure := range []func(context.Context, *leadBench) (report.Result, error){b.overview, b.overviewTail, b.deepList, b.createLead} {
		result, err := measure(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", result.Name, err)
		}
		results = append(results, result)
	}
	return results, nil
}

// startLeads starts crm with the leads of the options.
func (b *bench) startLeads(ctx context.Context) (_ *leadBench, err error) {
	l, err := b.startCRM(ctx)
	if err != nil {
		return nil, err
	}
	cfg := crm.Defaults()
	cfg.Database.URL = conf.Secret(l.postgres.URL())
	took := clock.Stopwatch()
	err = crm.Seed(ctx, cfg, telemetry.Nop(), crm.SeedOptions{Agents: leadAgents, Leads: b.Leads, Calls: b.Leads / 5, Seed: 1, Progress: func(kind string, done, all int) {
		if 10*done/all != 10*(done-5000)/all || done == all {
			b.printf("  %s: %d of %d, %.0f s", kind, done, all, took().Seconds())
		}
	}})
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// startCRM starts crm without leads, and the PostgreSQL below it.
func (b *bench) startCRM(ctx context.Context) (_ *leadBench, err error) {
	l := &leadBench{requester: requester{client: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 2 * leadWriters}}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.dir, err = os.MkdirTemp(b.dir, "leads-"); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	if l.postgres, err = l.startPostgres(ctx); err != nil {
		return nil, err
	}
	if err := l.start(); err != nil {
		return nil, err
	}
	if l.token, err = l.issuer.AdminToken(event.NewID()); err != nil {
		return nil, err
	}
	l.crm, err = l.startService(ctx, b, "crm", process.Any, "DATABASE_URL="+l.postgres.URL(), fmt.Sprintf("DATABASE_MAX_CONNS=%d", databaseConnections), "CALLS_URL="+l.url)
	if err != nil {
		return nil, err
	}
	l.base = l.crm.url
	return l, l.crm.ready(ctx)
}

// answer is a response and how long it took.
type answer struct {
	status int
	header http.Header
	body   []byte
	took   time.Duration
}

// get requests a path. etag is the header If-None-Match, or empty.
func (r requester) get(ctx context.Context, path, etag string) (a answer, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, nil)
	if err != nil {
		return a, fmt.Errorf("build the request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+r.token)
	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}
	took := clock.Stopwatch()
	response, err := r.client.Do(request)
	if err != nil {
		return a, fmt.Errorf("send the request: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, body, took()}, err
}

// ok is get of something that exists.
func (r requester) ok(ctx context.Context, path string) (answer, error) {
	a, err := r.get(ctx, path, "")
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("%s returned %d: %.300s", path, a.status, a.body)
	}
	return a, err
}

// repeat requests a path one after another for d and returns the times.
func (r requester) repeat(ctx context.Context, path string, d time.Duration) (times []time.Duration, err error) {
	for began := clock.Stopwatch(); began() < d || len(times) == 0; {
		a, err := r.ok(ctx, path)
		if err != nil {
			return nil, err
		}
		times = append(times, a.took)
	}
	return times, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// median measures the median time of a request, one at a time.
func (b *bench) median(ctx context.Context, l *leadBench, path string) (report.Measure, error) {
	var times []time.Duration
	m, err := observeParts([]part{{"crm", l.crm}, {"PostgreSQL", l.postgres}}, process.Any, func() (int, time.Duration, error) {
		var err error
		times, err = l.repeat(ctx, path, b.Length)
		return len(times), b.Length, err
	})
	if err == nil {
		m.Value = micros(report.Median(times))
	}
	return m, err
}

// medianTime measures the median time of something that is done again and again, one at a time. do gets how often it was done.
func (b *bench) medianTime(ctx context.Context, parts []part, do func(ctx context.Context, n int) error) (report.Measure, error) {
	var times []time.Duration
	m, err := observeParts(parts, process.Any, func() (int, time.Duration, error) {
		for began := clock.Stopwatch(); began() < b.Length || len(times) == 0; {
			took := clock.Stopwatch()
			if err := do(ctx, len(times)); err != nil {
				return 0, 0, err
			}
			times = append(times, took())
		}
		return len(times), b.Length, nil
	})
	if err == nil {
		m.Value = micros(report.Median(times))
	}
	return m, err
}

const overviewPath = "/analytics/overview?scope=team&tz=Asia/Kolkata"

func (b *bench) overview(ctx context.Context, l *leadBench) (report.Result, error) {
	b.printf("  overview: p50 of the request ÷ that of select count(*) from leads")
	result := report.Result{Name: "overview", Peer: "count(*)", Unit: "µs", Floor: 0.05, Goal: 0.01}
	if err := l.checkOverview(ctx, b.Leads); err != nil {
		return result, err
	}
	conn, err := pgx.Connect(ctx, l.postgres.URL())
	if err != nil {
		return result, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	count := func(ctx context.Context, _ int) error {
		_, err := conn.Exec(ctx, "select count(*) from crm.leads")
		return err
	}
	return b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() (err error) {
			round.Ours, err = b.median(ctx, l, overviewPath)
			return err
		}, func() (err error) {
			round.Peer, err = b.medianTime(ctx, []part{{"PostgreSQL", l.postgres}}, count)
			return err
		})
		round.Ours.Parts, round.Peer.Parts = nil, nil
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
}

// checkOverview checks the overview, and that it is not sent again while nothing has changed.
func (l *leadBench) checkOverview(ctx context.Context, want int) error {
	a, err := l.ok(ctx, overviewPath)
	if err != nil {
		return err
	}
	var o struct {
		Total int `json:"total_leads"`
		Daily []struct {
			New int `json:"new_leads"`
		} `json:"daily_stats"`
	}
	if err := json.Unmarshal(a.body, &o); err != nil || o.Total != want || len(o.Daily) != 30 || o.Daily[10].New == 0 {
		return fmt.Errorf("the overview is wrong: %.300s %w", a.body, err)
	}
	again, err := l.get(ctx, overviewPath, a.header.Get("ETag"))
	if err == nil && again.status != http.StatusNotModified {
		err = fmt.Errorf("an unchanged overview returned %d", again.status)
	}
	return err
}

// overviewTail measures p99 ÷ p50 at a constant rate while leads are written.
func (b *bench) overviewTail(ctx context.Context, l *leadBench) (report.Result, error) {
	b.printf("  overview tail: p99 ÷ p50 at %d requests/s, while %d leads/s are created", overviewRate, writeRate)
	result := report.Result{Name: "overview tail", Peer: "its p50", Unit: "µs", Floor: 10, Goal: 5}
	return b.rounds(ctx, result, func(bool) (round report.Round, err error) {
		var times []time.Duration
		round.Ours, err = observe(l.crm, process.Any, func() (int, time.Duration, error) {
			writing, stop := context.WithCancel(ctx)
			defer stop()
			written := make(chan error, 1)
			go func() {
				_, err := paced(writing, writeRate, b.Length, l.create)
				written <- err
			}()
			var err error
			times, err = paced(ctx, overviewRate, b.Length, func(ctx context.Context) error {
				_, err := l.ok(ctx, overviewPath)
				return err
			})
			return len(times), b.Length, errors.Join(err, <-written)
		})
		if err != nil {
			return round, err
		}
		slices.Sort(times)
		round.Peer = round.Ours
		round.Ours.Value, round.Peer.Value = micros(times[len(times)*99/100]), micros(times[len(times)/2])
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, nil
	})
}

// paced calls do rate times per second for d, whether or not earlier calls have returned, and returns how long each took since it was
// due.
func paced(ctx context.Context, rate int, d time.Duration, do func(context.Context) error) (times []time.Duration, err error) {
	var group sync.WaitGroup
	var mu sync.Mutex
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	began := clock.Stopwatch()
	for i := range int(d.Seconds() * float64(rate)) {
		select {
		case <-ctx.Done():
			group.Wait()
			return times, errors.Join(err, ctx.Err())
		case <-tick.C:
		}
		due := min(began(), time.Duration(i+1)*time.Second/time.Duration(rate))
		group.Go(func() {
			failed := do(ctx)
			mu.Lock()
			defer mu.Unlock()
			times, err = append(times, began()-due), errors.Join(err, failed)
		})
	}
	group.Wait()
	return times, err
}

// create creates a lead.
func (l *leadBench) create(ctx context.Context) error {
	body := fmt.Sprintf(`{"name":"Asha Rao","phone":"+1 201%07d","source_campaign":"Diwali"}`, 2_000_000+l.sequence.Add(1))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.crm.url+"/leads", bytes.NewReader([]byte(body)))
	if err != nil {
		return fmt.Errorf("build the request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+l.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := l.client.Do(request)
	if err != nil {
		return fmt.Errorf("send the request: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusCreated {
		err = fmt.Errorf("POST /leads returned %d: %.300s", response.StatusCode, answer)
	}
	return err
}

// deepList compares a page far down a list with the first.
func (b *bench) deepList(ctx context.Context, l *leadBench) (report.Result, error) {
	b.printf("  list page %d: p50 ÷ that of page 1", deepPage)
	result := report.Result{Name: fmt.Sprintf("list page %d", deepPage), Peer: "page 1", Unit: "µs", Floor: 2, Goal: 1.3}
	first := fmt.Sprintf("/leads?limit=%d", leadsPerPage)
	deep := fmt.Sprintf("/leads?limit=%d", 10*leadsPerPage)
	for range deepPage / 10 {
		a, err := l.ok(ctx, deep)
		if err != nil {
			return result, err
		}
		next, _, found := strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
		if !found {
			return result, fmt.Errorf("%s has no next page", deep)
		}
		deep = next
	}
	if at := strings.Index(deep, "/leads?"); at > 0 {
		deep = deep[at:]
	}
	deep = strings.Replace(deep, fmt.Sprintf("limit=%d", 10*leadsPerPage), fmt.Sprintf("limit=%d", leadsPerPage), 1)
	return b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() (err error) {
			round.Ours, err = b.median(ctx, l, deep)
			return err
		}, func() (err error) {
			round.Peer, err = b.median(ctx, l, first)
			return err
		})
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
}

// createLead compares creating leads, with event and counts, with plain inserts of the same row.
func (b *bench) createLead(ctx context.Context, l *leadBench) (report.Result, error) {
	b.printf("  create lead: per second ÷ plain inserts by pgbench, %d clients each", leadWriters)
	result := report.Result{Name: "create lead", Peer: "pgbench", Unit: "leads/s", Floor: 0.40, Goal: 0.65}
	pgbench, err := l.postgres.Pgbench(l.dir, "crm", leadWriters, postgres.Script{Statement: plainInsert})
	if err != nil {
		return result, err
	}
	database := part{"PostgreSQL", l.postgres}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() (err error) {
			round.Ours, err = observeParts([]part{{"crm", l.crm}, database}, process.Any, func() (int, time.Duration, error) { return l.createFor(ctx, b.Length) })
			return err
		}, func() (err error) {
			round.Peer, err = observeParts([]part{database}, process.Any, func() (int, time.Duration, error) { return pgbench.Run(ctx, b.Length) })
			return err
		})
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
	if err != nil {
		return result, err
	}
	return result, b.profile(ctx, "create-lead", l.crm.admin, func(d time.Duration) error {
		_, _, err := l.createFor(ctx, d)
		return err
	})
}

// createFor creates leads with all clients for d.
func (l *leadBench) createFor(ctx context.Context, d time.Duration) (n int, took time.Duration, err error) {
	var group sync.WaitGroup
	var created atomic.Int64
	failed := make(chan error, leadWriters)
	began := clock.Stopwatch()
	for range leadWriters {
		group.Go(func() {
			for began() < d {
				if err := l.create(ctx); err != nil {
					failed <- err
					return
				}
				created.Add(1)
			}
		})
	}
	group.Wait()
	took = began()
	close(failed)
	return int(created.Load()), took, <-failed
}
