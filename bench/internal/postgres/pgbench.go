package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/convoflow/convoflow/bench/internal/process"
)

// checks is how many statements Pgbench.Check runs.
const checks = 200

// Script is the transaction that pgbench repeats: one statement.
type Script struct {
	Draw      []string       // before each statement, such as `\set client random(1, 1000)`
	Statement string         // with variables, :client
	Constants map[string]int // variables that stay the same
}

// parameter matches a parameter of a statement with the word before it: id = $1, limit $2.
var parameter = regexp.MustCompile(`(\w+)(\s*=\s*|\s+)\$\d+`)

// WithVariables replaces the parameters of a statement by expressions, by the word before them: {"id": ":client"} turns
// "where id = $1" into "where id = :client".
func WithVariables(statement string, expressions map[string]string) (string, error) {
	replaced := parameter.ReplaceAllStringFunc(statement, func(found string) string {
		part := parameter.FindStringSubmatch(found)
		expression, known := expressions[strings.ToLower(part[1])]
		if !known {
			return found
		}
		return part[1] + part[2] + expression
	})
	if strings.Contains(replaced, "$") {
		return "", fmt.Errorf("pgbench cannot run the statement, which has an unknown parameter: %s", replaced)
	}
	return replaced, nil
}

// run returns the script for a measurement.
func (s Script) run() string {
	return strings.Join(append(slices.Clone(s.Draw), s.Statement+";"), "\n") + "\n"
}

// check returns a script that fails unless the statement returns that many rows.
func (s Script) check(rows int) string {
	return strings.Join(append(slices.Clone(s.Draw),
		`select count(*) as found from (`+s.Statement+`) as answer \gset`,
		fmt.Sprintf(`\if :found != %d`, rows),
		"select 'not the expected number of rows'::int;",
		`\endif`), "\n") + "\n"
}

// Pgbench is pgbench with one script. Each of its connections prepares the statement once.
type Pgbench struct {
	program     process.Program
	constants   []string
	connections int
	script      Script
	dir         string
}

// Pgbench returns a pgbench whose search_path is schema. Its scripts are stored in dir.
func (s *Server) Pgbench(dir, schema string, connections int, script Script) (*Pgbench, error) {
	u, err := url.Parse(s.URL())
	if err != nil {
		return nil, fmt.Errorf("read the address of postgres: %w", err)
	}
	password, _ := u.User.Password()
	p := &Pgbench{connections: connections, script: script, dir: dir, program: process.Program{
		Name: "pgbench", Argv: []string{filepath.Join(s.bin, "pgbench")}, Core: process.Any,
		Env: []string{
			"PGHOST=" + u.Hostname(), "PGPORT=" + u.Port(), "PGUSER=" + u.User.Username(), "PGPASSWORD=" + password,
			"PGDATABASE=" + database, "PGSSLMODE=disable", "PGOPTIONS=-c search_path=" + schema,
		},
	}}
	for _, name := range slices.Sorted(maps.Keys(script.Constants)) {
		p.constants = append(p.constants, "-D", fmt.Sprintf("%s=%d", name, script.Constants[name]))
	}
	if _, err := os.Stat(p.program.Argv[0]); err != nil {
		return nil, fmt.Errorf("find pgbench beside postgres: %w", err)
	}
	return p, nil
}

// Check fails unless the statement returns that many rows for any random values.
func (p *Pgbench) Check(ctx context.Context, rows int) error {
	_, err := p.start(ctx, p.script.check(rows), "-c", "1", "-t", strconv.Itoa(checks))
	return err
}

// Run runs the statement on all connections for d, in whole seconds. It returns the number of executions and how long they took,
// without the time to connect.
func (p *Pgbench) Run(ctx context.Context, d time.Duration) (statements int, took time.Duration, err error) {
	out, err := p.start(ctx, p.script.run(), "-c", strconv.Itoa(p.connections), "-j", strconv.Itoa(min(p.connections, runtime.NumCPU())),
		"-T", strconv.Itoa(int(d.Seconds())))
	if err != nil {
		return 0, 0, err
	}
	return parse(out)
}

func (p *Pgbench) start(ctx context.Context, script string, args ...string) (string, error) {
	file := filepath.Join(p.dir, "pgbench.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return "", fmt.Errorf("write pgbench's script: %w", err)
	}
	program := p.program
	program.Argv = slices.Concat(program.Argv, []string{"--no-vacuum", "-M", "prepared", "-f", file}, p.constants, args)
	return process.Run(ctx, program)
}

var (
	processed = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	failed    = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`) // since PostgreSQL 15
	rate      = regexp.MustCompile(`(?m)^tps = ([\d.]+) \(without initial connection time\)`)
)

// parse reads the summary of pgbench.
func parse(out string) (statements int, took time.Duration, err error) {
	perSecond := 0.0
	if found := processed.FindStringSubmatch(out); found != nil {
		statements, _ = strconv.Atoi(found[1])
	}
	if found := rate.FindStringSubmatch(out); found != nil {
		perSecond, _ = strconv.ParseFloat(found[1], 64)
	}
	if found := failed.FindStringSubmatch(out); found != nil && found[1] != "0" {
		return 0, 0, fmt.Errorf("pgbench: %s statements failed", found[1])
	}
	if statements == 0 || perSecond == 0 {
		return 0, 0, errors.New("pgbench counted nothing:\n" + out)
	}
	return statements, time.Duration(float64(statements) / perSecond * float64(time.Second)), nil
}
