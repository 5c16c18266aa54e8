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
	// With so many agents it is clearly cheaper to read an agent's clients by their index than to filter everybody's: with 10
	// the planner is undecided, and chooses one for crm and the other for pgbench.
	agentCount  = 40
	clientCount = 20_000 // of all agents together, the same number of each
	listLimit   = 20
	// databaseConnections are what crm has by default, and pgbench too.
	databaseConnections = 10
)

// The ids of agents and clients end in a decimal number from firstID on, always of 12 digits: pgbench can draw a number and
// not a UUID.
const (
	agentPrefix  = "019abf00-0000-7000-9000-"
	clientPrefix = "019abf00-0000-7000-8000-"
	firstID      = 100_000_000_000
)

func agentID(i int) string  { return fmt.Sprintf("%s%d", agentPrefix, firstID+i) }
func clientID(i int) string { return fmt.Sprintf("%s%d", clientPrefix, firstID+i) }

// seed fills the table of clients: the i-th client is that of the agent i modulo their number, a minute younger than the last.
const seed = `
	insert into crm.clients (id, agent_id, name, email, phone, company, notes, version, created_at, updated_at)
	select ($1::text || ($3 + i))::uuid, ($2::text || ($3 + i % $4))::uuid, 'Asha Rao ' || i, 'asha.rao.' || i || '@clients.example.com',
		'+9198' || (10000000 + i), 'Sunrise Traders', 'Met at the trade fair in Pune; prefers to be called after four.', 1, made, made
	from generate_series(0, $5::bigint - 1) as i, lateral (select timestamptz '2026-11-01 09:00:00Z' + i * interval '1 minute') as t(made)`

// lastRead finds the statement with which crm last read the clients.
const lastRead = `
	select query from pg_stat_activity where application_name = 'convoflow-crm' and query ~* '\mfrom\s+clients\M'
	order by query_start desc limit 1`

// usedIndexes are those by which the clients have been read.
const usedIndexes = `
	select coalesce(string_agg(indexrelname, ', ' order by indexrelname), 'none') from pg_stat_user_indexes where relname = 'clients' and idx_scan > 0`

// reader is the gateway and crm before a PostgreSQL with clients.
type reader struct {
	outside
	gateway, crm *service
	postgres     *postgres.Server
	wrk          load.Wrk
	dir          string
	tokens       [agentCount]string
	answered     int // requests
}

// reading is a request, and the statement that crm answers it with.
type reading struct {
	name        string
	floor, goal float64
	targets     []load.Target
	draw        string // what pgbench does before each statement
	rows        int    // that the statement finds
	check       func(context.Context) error
}

// reads is the requests per second of GET /clients/{id} and GET /clients?limit=20 ÷ the statements per second of pgbench.
func reads(ctx context.Context, b *bench) (results []report.Result, err error) {
	b.say("read: requests/s of the gateway and crm with everything on ÷ the same SQL statement with pgbench, on all cores")
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
	if err := errors.Join(r.gateway.Stop(), r.crm.Stop()); err != nil { // they send their last spans
		return nil, err
	}
	lines, spans := r.gateway.Lines(), r.sink.Spans()
	if len(b.Env) == 0 && (lines < int64(r.answered) || spans == 0) {
		return nil, fmt.Errorf("the gateway wrote %d lines of log, and it and crm sent %d spans for %d requests", lines, spans, r.answered)
	}
	var indexes string
	if err := r.sql(ctx, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, usedIndexes).Scan(&indexes) }); err != nil {
		return nil, fmt.Errorf("find the indexes that were used: %w", err)
	}
	results[0].Notes = append(results[0].Notes, "both sides of both reads used the indexes "+indexes)
	results[0].Notes = append(results[0].Notes, fmt.Sprintf("per request of both reads the gateway wrote %.2f lines of log, and %.2f spans of it and crm arrived at the collector",
		float64(lines)/float64(r.answered), float64(spans)/float64(r.answered)))
	return results, nil
}

func (b *bench) startReader(ctx context.Context) (_ *reader, err error) {
	b.say("  starting PostgreSQL with %d clients of %d agents, a broker, crm and the gateway", clientCount, agentCount)
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

// sql calls do with a connection of its own to PostgreSQL.
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

// client is what is checked of an answer.
type client struct {
	ID      string `json:"id"`
	AgentID string `json:"agent_id"`
}

// get asks the gateway as the agent and reads the answer.
func (r *reader) get(ctx context.Context, agent int, path string, into any) error {
	status, body, err := ask(ctx, load.Target{URL: r.gateway.url + path, Token: r.tokens[agent]})
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s was answered %d: %.300s", path, status, body)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	return nil
}

// checkOne makes sure that some clients are the right ones, and that there are none without a token.
func (r *reader) checkOne(ctx context.Context) error {
	for i := 0; i < clientCount; i += clientCount/agentCount + 1 {
		var got client
		if err := r.get(ctx, i%agentCount, "/clients/"+clientID(i), &got); err != nil {
			return err
		}
		if want := (client{clientID(i), agentID(i % agentCount)}); got != want {
			return fmt.Errorf("the answer is %v and should be %v", got, want)
		}
	}
	for _, s := range []*service{r.gateway, r.crm} {
		status, _, err := ask(ctx, load.Target{URL: s.url + "/clients/" + clientID(0)})
		if err == nil && status != http.StatusUnauthorized {
			err = fmt.Errorf("%s answered %d to a request without a token", s.url, status)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkList makes sure that each agent gets its newest clients in order.
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

// peer is pgbench with the statement that crm has just run.
func (r *reader) peer(ctx context.Context, x reading) (*postgres.Pgbench, error) {
	var statement string
	err := r.sql(ctx, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, lastRead).Scan(&statement) })
	if err != nil {
		return nil, fmt.Errorf("find the statement of crm: %w", err)
	}
	statement, err = postgres.WithVariables(strings.TrimSpace(statement), map[string]string{
		// pgbench sends the number as text, and PostgreSQL makes the UUID of it once per statement. This costs no more than a text
		// that is the whole UUID, which pgbench could not draw.
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
	b.say("  %s", x.name)
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
		r.answered += requests
		return requests, took, err
	}
	query := func(d time.Duration) (int, time.Duration, error) { return pgbench.Run(ctx, d) }
	database := part{"PostgreSQL", r.postgres}
	result = report.Result{Name: x.name, Peer: "pgbench", Unit: "requests/s", Floor: x.floor, Goal: x.goal}
	result, err = b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = inTurn(oursFirst, func() (err error) {
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

// warmed observes work on all cores after a second of it that does not count.
func (b *bench) warmed(work func(time.Duration) (int, time.Duration, error), parts ...part) (report.Measure, error) {
	if _, _, err := work(warmUp); err != nil {
		return report.Measure{}, err
	}
	return observeParts(parts, process.Any, func() (int, time.Duration, error) { return work(b.Length) })
}
