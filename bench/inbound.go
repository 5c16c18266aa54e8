package bench

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/convoflow/convoflow/bench/internal/postgres"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
)

const (
	inboundRate   = 200 // deliveries per second
	inboundSecret = "the-secret-of-the-benchmark"
	knownEvery    = 4 // one of so many deliveries is about a phone number that came before
)

// receiver is the gateway and crm with a PostgreSQL.
type receiver struct {
	environment
	gateway, crm *service
	postgres     *postgres.Server
	pool         *pgxpool.Pool // for the peer
	sent         atomic.Int64  // deliveries, of all rounds
	inserted     atomic.Int64
}

// inbound compares the 99th percentile of signed deliveries with that of a bare INSERT of a lead into the same table, each at 200/s.
func inbound(ctx context.Context, b *bench) (result report.Result, err error) {
	b.printf("inbound: p99 of a lead that Pabbly delivers through gateway and crm at %d/s ÷ p99 of a bare INSERT at the same rate", inboundRate)
	shared := *b
	shared.layout = newLayout(1)
	r := &receiver{}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.open(ctx, &shared); err != nil {
		return result, err
	}
	side := func(do func(context.Context) error, into *report.Measure, parts ...part) func() error {
		return func() (err error) {
			if _, err := tail(ctx, warmUp, do); err != nil {
				return err
			}
			var p99 time.Duration
			*into, err = observeParts(parts, process.Any, func() (int, time.Duration, error) {
				p99, err = tail(ctx, b.Length, do)
				return int(inboundRate * b.Length.Seconds()), b.Length, err
			})
			into.Value = float64(p99.Microseconds())
			return err
		}
	}
	database := part{"PostgreSQL", r.postgres}
	result = report.Result{Name: "inbound", Peer: "INSERT", Unit: "µs", Floor: 3, Goal: 2}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, side(r.deliver, &round.Ours, part{"gateway", r.gateway}, part{"crm", r.crm}, database), side(r.insert, &round.Peer, database))
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
	if err != nil {
		return result, err
	}
	result.Notes = append(result.Notes, fmt.Sprintf("p99 at %d/s; every %dth delivery is merged into a lead that exists, the others are new; an answer comes after the commit", inboundRate, knownEvery))
	return result, r.check(ctx)
}

func (r *receiver) open(ctx context.Context, b *bench) (err error) {
	if r.postgres, err = r.startPostgres(ctx); err != nil {
		return err
	}
	if err := r.start(); err != nil {
		return err
	}
	r.crm, err = r.startService(ctx, b, "crm", process.Any, "DATABASE_URL="+r.postgres.URL(), fmt.Sprintf("DATABASE_MAX_CONNS=%d", databaseConnections), "CALLS_URL="+r.url, "PABBLY_INBOUND_SECRET="+inboundSecret)
	if err != nil {
		return err
	}
	if err := r.crm.ready(ctx); err != nil {
		return err
	}
	cfg, err := pgxpool.ParseConfig(r.postgres.URL())
	if err != nil {
		return fmt.Errorf("read the database's URL: %w", err)
	}
	cfg.MaxConns = databaseConnections
	if r.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	r.add(func() error { r.pool.Close(); return nil })
	for i := range agentCount {
		if _, err := r.pool.Exec(ctx, `insert into crm.agents (id, version, name, email, active) values ($1, 1, 'Rep', 'rep@example.com', true)`, agentID(i)); err != nil {
			return fmt.Errorf("insert an agent: %w", err)
		}
	}
	if r.gateway, err = r.startGateway(ctx, b, r.crm.url); err != nil {
		return err
	}
	return r.gateway.ready(ctx)
}

// deliver sends one delivery.
func (r *receiver) deliver(ctx context.Context) error {
	n := r.sent.Add(1)
	number := n
	if n%knownEvery == 0 {
		number = n - 2 // of the one before the last: it may still be on its way, which is part of the load
	}
	body := fmt.Appendf(nil, `{"full_name":"Priya Sharma","phone_number":"p:+9198%08d","email_address":"priya.%d@example.com","campaign_name":"Diwali","adset_name":"Pune 25-34","budget":%d}`, number, number, n)
	mac := hmac.New(sha256.New, []byte(inboundSecret))
	mac.Write(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.gateway.url+"/leads/inbound", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("build a delivery: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Pabbly-Signature", hex.EncodeToString(mac.Sum(nil)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("send a delivery: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusCreated && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("a delivery was answered %d: %.300s", res.StatusCode, answer)
	}
	return err
}

// insert writes a lead with the columns that a delivery sets, in a transaction of its own.
func (r *receiver) insert(ctx context.Context) error {
	n := r.inserted.Add(1)
	_, err := r.pool.Exec(ctx, `
		insert into crm.leads (id, assigned_agent_id, name, phone, email, source_campaign, ad_set, status, intent_category, followup_count, payment_link_sent, extra_data, call_version, version, created_at, updated_at)
		values (gen_random_uuid(), $1, 'Priya Sharma', $2, $3, 'Diwali', 'Pune 25-34', 'new', 'new', 0, false, '{"budget": 1}', 0, 1, now(), now())`,
		agentID(int(n%agentCount)), fmt.Sprintf("+9197%08d", n), fmt.Sprintf("priya.%d@example.com", n))
	if err != nil {
		return fmt.Errorf("insert a lead: %w", err)
	}
	return nil
}

// check requires a lead for each number that was delivered, and that the agents have about as many each.
func (r *receiver) check(ctx context.Context) error {
	want, got, least, most := 0, 0, 0, 0
	for n := int64(1); n <= r.sent.Load(); n++ {
		if n%knownEvery != 0 {
			want++
		}
	}
	err := r.pool.QueryRow(ctx, `
		select sum(n)::int, min(n)::int, max(n)::int from (select count(*) as n from crm.leads where phone like '+9198%' group by assigned_agent_id) as per_agent`).Scan(&got, &least, &most)
	if err != nil {
		return fmt.Errorf("count the leads: %w", err)
	}
	if got != want {
		return fmt.Errorf("%d numbers became %d leads", want, got)
	}
	if most > least+want/agentCount {
		return fmt.Errorf("the agents have between %d and %d leads", least, most)
	}
	return nil
}

// tail calls do at the rate of inboundRate for d and returns the 99th percentile of how long the calls took.
func tail(ctx context.Context, d time.Duration, do func(context.Context) error) (p99 time.Duration, err error) {
	took, err := paced(ctx, inboundRate, d, do)
	if err != nil {
		return 0, err
	}
	slices.Sort(took)
	return took[len(took)*99/100], nil
}
