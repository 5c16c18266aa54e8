package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/bench/internal/load"
	"github.com/convoflow/convoflow/bench/internal/postgres"
	"github.com/convoflow/convoflow/bench/internal/process"
	"github.com/convoflow/convoflow/bench/internal/report"
)

const (
	// With this many agents, reading an agent's clients by an index is clearly cheaper than filtering all clients. With 10 agents the
	// plans cost almost the same, and the planner chose different ones for crm and pgbench.
	agentCount  = 40
	clientCount = 20_000 // in total, the same number per agent
	listLimit   = 20
	// databaseConnections is crm's default, for pgbench too.
	databaseConnections = 10
)

// The ids of agents and clients end in a decimal number of 12 digits, from firstID on: pgbench can draw random numbers but not
// UUIDs.
const (
	agentPrefix  = "019abf00-0000-7000-9000-"
	clientPrefix = "019abf00-0000-7000-8000-"
	firstID      = 100_000_000_000
)

func agentID(i int) string  { return fmt.Sprintf("%s%d", agentPrefix, firstID+i) }
func clientID(i int) string { return fmt.Sprintf("%s%d", clientPrefix, firstID+i) }

// seed fills the table of clients. Client i belongs to agent i modulo the number of agents and is a minute newer than the previous.
const seed = `
	insert into crm.clients (id, agent_id, name, email, phone, company, notes, version, created_at, updated_at)
	select ($1::text || ($3 + i))::uuid, ($2::text || ($3 + i % $4))::uuid, 'Asha Rao ' || i, 'asha.rao.' || i || '@clients.example.com',
		'+9198' || (10000000 + i), 'Sunrise Traders', 'Met at the trade fair in Pune; prefers to be called after four.', 1, made, made
	from generate_series(0, $5::bigint - 1) as i, lateral (select timestamptz '2026-11-01 09:00:00Z' + i * interval '1 minute') as t(made)`

// lastRead finds the last statement of crm that reads clients.
const lastRead = `
	select query from pg_stat_activity where application_name = 'convoflow-crm' and query ~* '\mfrom\s+clients\M'
	order by query_start desc limit 1`

// usedIndexes finds the indexes that were used to read clients.
const usedIndexes = `
	select coalesce(string_agg(indexrelname, ', ' order by indexrelname), 'none') from pg_stat_user_indexes where relname = 'clients' and idx_scan > 0`

// reader is the gateway and crm with a PostgreSQL that has clients.
type reader struct {
	environment
	gateway, crm *service
	postgres     *postgres.Server
	wrk          load.Wrk
	dir          string
	tokens       [agentCount]string
	responses    int
}

// reading is a request and its statement in crm.
type reading struct {
	name        string
	floor, goal float64
	targets     []load.Target
	draw        string // pgbench command before each statement
	rows        int    // of the statement's result
	check       func(context.Context) error
}

// reads compares the requests per second of GET /clients/{id} and GET /clients?limit=20 with the statements per second of pgbench.
func reads(ctx context.Context, b *bench) (results []report.Result, err error) {
	b.printf("read: requests/s of the gateway and crm with logs and traces on ÷ the same SQL statement with pgbench, on all cores")
	shared := *b
	shared.layout = newLayout(1)
	r, err := shared.startReader(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	for _, x := range r.readings() {
		result, err := shared.read(ctx, r, x)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x.name, err)
		}
		results = append(results, result)
	}
	if err := errors.Join(r.gateway.Stop(), r.crm.Stop()); err != nil { // which send their last spans
		return nil, err
	}
	lines, spans := r.gateway.Lines(), r.sink.Spans()
	if len(b.Env) == 0 && (lines < int64(r.responses) || spans == 0) {
		return nil, fmt.Errorf("the gateway wrote %d lines of log, and it and crm sent %d spans for %d requests", lines, spans, r.responses)
	}
	var indexes string
	if err := r.sql(ctx, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, usedIndexes).Scan(&indexes) }); err != nil {
		return nil, fmt.Errorf("find the indexes that were used: %w", err)
	}
	results[0].Notes = append(results[0].Notes, "both sides of both reads used the indexes "+indexes)
	results[0].Notes = append(results[0].Notes, fmt.Sprintf("per request of both reads the gateway wrote %.2f lines of log, and %.2f spans of it and crm arrived at the collector",
		float64(lines)/float64(r.responses), float64(spans)/float64(r.responses)))
	return results, nil
}

func (b *bench) startReader(ctx context.Context) (_ *reader, err error) {
	b.printf("  starting PostgreSQL with %d clients of %d agents, a broker, crm and the gateway", clientCount, agentCount)
	r := &reader{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.dir, err = os.MkdirTemp(b.dir, "read-"); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	if r.wrk, err = load.NewWrk(r.dir, connections, process.Any); err != nil {
		return nil, err
	}
	if r.postgres, err = r.startPostgres(ctx); err != nil {
		return nil, err
	}
	if err := r.start(); err != nil {
		return nil, err
	}
	for i := range r.tokens {
		if r.tokens[i], err = r.issuer.Token(agentID(i)); err != nil {
			return nil, err
		}
	}
	r.crm, err = r.startService(ctx, b, "crm", process.Any, "DATABASE_URL="+r.postgres.URL(), fmt.Sprintf("DATABASE_MAX_CONNS=%d", databaseConnections), "CALLS_URL="+r.url)
	if err != nil {
		return nil, err
	}
	if err := r.crm.ready(ctx); err != nil {
		return nil, err
	}
	if err := r.seed(ctx); err != nil {
		return nil, err
	}
	if r.gateway, err = r.startGateway(ctx, b, r.crm.url); err != nil {
		return nil, err
	}
	return r, r.gateway.ready(ctx)
}

// sql calls do with a new connection to PostgreSQL.
func (r *reader) sql(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, r.postgres.URL())
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return errors.Join(do(conn), conn.Close(ctx))
}

func (r *reader) seed(ctx context.Context) error {
	return r.sql(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, seed, clientPrefix, agentPrefix, firstID, agentCount, clientCount); err != nil {
			return fmt.Errorf("insert the clients: %w", err)
		}
		if _, err := conn.Exec(ctx, "vacuum analyze crm.clients"); err != nil {
			return fmt.Errorf("analyze the clients: %w", err)
		}
		return nil
	})
}

func (r *reader) readings() []reading {
	one := reading{
		name: "read one", floor: 0.15, goal: 0.30, rows: 1, check: r.checkOne,
		draw: fmt.Sprintf(`\set client random(%d, %d)`, firstID, firstID+clientCount-1),
	}
	for i := range clientCount {
		one.targets = append(one.targets, load.Target{URL: r.gateway.url + "/clients/" + clientID(i), Token: r.tokens[i%agentCount]})
	}
	list := reading{
		name: fmt.Sprintf("read list %d", listLimit), floor: 0.10, goal: 0.25, rows: listLimit + 1, check: r.checkList,
		draw: fmt.Sprintf(`\set agent random(%d, %d)`, firstID, firstID+agentCount-1),
	}
	for _, token := range r.tokens {
		list.targets = append(list.targets, load.Target{URL: fmt.Sprintf("%s/clients?limit=%d", r.gateway.url, listLimit), Token: token})
	}
	return []reading{one, list}
}

// client has the fields of a response that are checked.
type client struct {
	ID      string `json:"id"`
	AgentID string `json:"agent_id"`
}

// get sends a request to the gateway as the agent and decodes the response.
func (r *reader) get(ctx context.Context, agent int, path string, into any) error {
	status, body, err := fetch(ctx, load.Target{URL: r.gateway.url + path, Token: r.tokens[agent]})
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s returned %d: %.300s", path, status, body)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("decode the response to %s: %w", path, err)
	}
	return nil
}

// checkOne checks the responses for some clients, and that requests without a token are refused.
func (r *reader) checkOne(ctx context.Context) error {
	for i := 0; i < clientCount; i += clientCount/agentCount + 1 {
		var got client
		if err := r.get(ctx, i%agentCount, "/clients/"+clientID(i), &got); err != nil {
			return err
		}
		if want := (client{clientID(i), agentID(i % agentCount)}); got != want {
			return fmt.Errorf("the response is %v and should be %v", got, want)
		}
	}
	for _, s := range []*service{r.gateway, r.crm} {
		status, _, err := fetch(ctx, load.Target{URL: s.url + "/clients/" + clientID(0)})
		if err == nil && status != http.StatusUnauthorized {
			err = fmt.Errorf("%s returned %d for a request without a token", s.url, status)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkList checks that each agent gets its newest clients in order.
func (r *reader) checkList(ctx context.Context) error {
	for agent := range agentCount {
		var got []client
		if err := r.get(ctx, agent, fmt.Sprintf("/clients?limit=%d", listLimit), &got); err != nil {
			return err
		}
		if len(got) != listLimit {
			return fmt.Errorf("a list has %d clients and not %d", len(got), listLimit)
		}
		for i := range got {
			if want := (client{clientID(clientCount - agentCount*(i+1) + agent), agentID(agent)}); got[i] != want {
				return fmt.Errorf("client %d of a list is %v and should be %v", i, got[i], want)
			}
		}
	}
	return nil
}

// peer returns pgbench with the statement that crm has just executed.
func (r *reader) peer(ctx context.Context, x reading) (*postgres.Pgbench, error) {
	var statement string
	err := r.sql(ctx, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, lastRead).Scan(&statement) })
	if err != nil {
		return nil, fmt.Errorf("find the statement of crm: %w", err)
	}
	statement, err = postgres.WithVariables(strings.TrimSpace(statement), map[string]string{
		// pgbench sends the number as text, and PostgreSQL converts it to a UUID once per statement. That costs no more than a text
		// with the whole UUID, which pgbench cannot draw.
		"id":       "('" + clientPrefix + "' || :client)::uuid",
		"agent_id": "('" + agentPrefix + "' || :agent)::uuid",
		"limit":    ":rows",
		"offset":   ":skip",
	})
	if err != nil {
		return nil, err
	}
	p, err := r.postgres.Pgbench(r.dir, "crm", databaseConnections, postgres.Script{
		Draw: []string{x.draw}, Statement: statement, Constants: map[string]int{"rows": x.rows, "skip": 0},
	})
	if err != nil {
		return nil, err
	}
	if err := p.Check(ctx, x.rows); err != nil {
		return nil, err
	}
	return p, nil
}

func (b *bench) read(ctx context.Context, r *reader, x reading) (result report.Result, err error) {
	b.printf("  %s", x.name)
	if err := x.check(ctx); err != nil {
		return result, err
	}
	pgbench, err := r.peer(ctx, x)
	if err != nil {
		return result, err
	}
	mix, err := r.wrk.NewMix(strings.ReplaceAll(x.name, " ", "-"), x.targets)
	if err != nil {
		return result, err
	}
	request := func(d time.Duration) (int, time.Duration, error) {
		requests, took, err := r.wrk.RunMix(ctx, mix, d)
		r.responses += requests
		return requests, took, err
	}
	query := func(d time.Duration) (int, time.Duration, error) { return pgbench.Run(ctx, d) }
	database := part{"PostgreSQL", r.postgres}
	result = report.Result{Name: x.name, Peer: "pgbench", Unit: "requests/s", Floor: x.floor, Goal: x.goal}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() (err error) {
			round.Ours, err = b.warmed(request, part{"gateway", r.gateway}, part{"crm", r.crm}, database)
			return err
		}, func() (err error) {
			round.Peer, err = b.warmed(query, database)
			return err
		})
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
	if err != nil {
		return result, err
	}
	for _, s := range []struct {
		name string
		*service
	}{{"gateway", r.gateway}, {"crm", r.crm}} {
		err := b.profile(ctx, strings.ReplaceAll(x.name, " ", "-")+"-"+s.name, s.admin, func(d time.Duration) error {
			_, _, err := request(d)
			return err
		})
		if err != nil {
			return result, err
		}
	}
	return result, nil
}

// warmed observes work on all cores after a warm-up.
func (b *bench) warmed(work func(time.Duration) (int, time.Duration, error), parts ...part) (report.Measure, error) {
	if _, _, err := work(warmUp); err != nil {
		return report.Measure{}, err
	}
	return observeParts(parts, process.Any, func() (int, time.Duration, error) { return work(b.Length) })
}
