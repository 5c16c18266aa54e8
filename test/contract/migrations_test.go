package contract_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Migrations run while the version before serves. Those of ../released/migrations.sha256 count as run everywhere: they never change.
// Each later one may only do what blocks no reader or writer of a table that is there already for longer than a moment.
func TestMigrationsAreSafeWhileThePreviousVersionRuns(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../released/migrations.sha256")
	require.NoError(t, err)
	released := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		released[fields[1]] = fields[0]
	}
	var files []string
	for _, pattern := range []string{"libs/*/migrations/*.sql", "services/*/internal/store/migrations/*.sql"} {
		found, err := filepath.Glob(filepath.Join("testdata", pattern))
		require.NoError(t, err)
		require.NotEmpty(t, found)
		files = append(files, found...)
	}
	known := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		name := strings.TrimPrefix(filepath.ToSlash(file), "testdata/")
		if sum, ok := released[name]; ok {
			known++
			got := sha256.Sum256(text)
			require.Equal(t, sum, hex.EncodeToString(got[:]), "%s was released and must not change: write another file", name)
			continue
		}
		for _, problem := range lintMigration(string(text)) {
			t.Errorf("%s: %s", name, problem)
		}
	}
	require.Len(t, released, known, "a migration that was released must not be removed")
}

// allowed is how a file says why one of its statements is safe all the same.
var allowed = regexp.MustCompile(`(?m)^-- lint: (.+)$`)

var (
	lineComment = regexp.MustCompile(`--[^\n]*`)
	newTable    = regexp.MustCompile(`^create table (?:if not exists )?(\w+)`)
	newIndex    = regexp.MustCompile(`^create (?:unique )?index (concurrently )?(?:if not exists )?\w* ?on (?:only )?(\w+)`)
	alterTable  = regexp.MustCompile(`^alter table (?:if exists )?(?:only )?(\w+) (.*)$`)
	onTable     = regexp.MustCompile(`^(?:update|delete from|insert into) (?:only )?(\w+)`)
	volatile    = regexp.MustCompile(`default .*\b(random|gen_random_uuid|uuid_generate_v\d\w*|clock_timestamp|nextval|timeofday)\(`)
)

// rule refuses what matches pattern, unless it matches the other one.
type rule struct{ pattern, unless, why string }

func (r rule) refuses(text string) bool {
	return regexp.MustCompile(r.pattern).MatchString(text) && (r.unless == "" || !regexp.MustCompile(r.unless).MatchString(text))
}

// refused are statements that lock a whole table, or what the version before uses, whatever the table is.
var refused = []rule{
	{`^drop table`, ``, "the version before may use the table: drop it one release after its last use"},
	{`^drop (schema|view|function|type|sequence|trigger)`, ``, "the version before may use it"},
	{`^truncate`, ``, "it locks and empties the table"},
	{`^(cluster|vacuum full|lock )`, ``, "it locks the table"},
	{`^reindex `, `concurrently`, "it locks the table: reindex concurrently"},
	{`^drop index `, `concurrently`, "it waits for every query of the table and blocks those after it: drop index concurrently, in a file of its own, one release later"},
	{`^alter (type|schema|sequence|index) .* rename`, ``, "the version before uses the former name"},
}

// refusedActions are parts of alter table for a table that is there already.
var refusedActions = []rule{
	{`^rename`, ``, "the version before uses the former name: add, copy, and remove one release later"},
	{`^drop (column )?`, ``, "the version before uses it: drop it one release after its last use"},
	{`^alter (column )?\w+ (set data )?type`, ``, "it rewrites the table under a lock"},
	{`^alter (column )?\w+ set not null`, ``, "it reads the whole table under a lock: add a check constraint as not valid, validate it, then set not null"},
	{`^add (constraint \w+ )?(primary key|unique|exclude)`, `using index`, "it builds an index under a lock: create it concurrently, then add the constraint using index"},
	{`^add (constraint \w+ )?(check|foreign key)`, `not valid`, "it reads the whole table under a lock: add it as not valid, and validate it in a later file"},
	{`^add (column )?.* generated always as \(.*stored`, ``, "it rewrites the table under a lock"},
	{`^add (column )?.*\b(serial|bigserial|generated (always|by default) as identity)`, ``, "it rewrites the table under a lock"},
	{`^add (column )?.*\bnot null`, `default`, "it fails if there are rows, and so do inserts of the version before: give it a default"},
	{`^add (column )?.*\b(unique|primary key|references)\b`, `^add (constraint|check|foreign|primary|unique)`, "it locks the table while it builds an index or checks rows: separate steps"},
	{`^set (logged|unlogged|tablespace|access method)`, ``, "it rewrites the table"},
}

// lintMigration returns what is wrong with a migration.
func lintMigration(text string) (problems []string) {
	if allowed.MatchString(text) {
		return nil
	}
	created := map[string]bool{}
	for statement := range strings.SplitSeq(lineComment.ReplaceAllString(text, ""), ";") {
		statement = strings.ToLower(strings.Join(strings.Fields(statement), " "))
		if statement == "" {
			continue
		}
		problem := func(why string) {
			problems = append(problems, why+" (or say why it is safe: -- lint: <reason>): "+statement[:min(len(statement), 100)])
		}
		for _, r := range refused {
			if r.refuses(statement) {
				problem(r.why)
			}
		}
		if m := newTable.FindStringSubmatch(statement); m != nil {
			created[m[1]] = true
		}
		if m := newIndex.FindStringSubmatch(statement); m != nil && m[1] == "" && !created[m[2]] {
			problem("it blocks writes while it is built: create index concurrently if not exists, with -- +goose NO TRANSACTION, alone in its file")
		}
		if m := onTable.FindStringSubmatch(statement); m != nil && !created[m[1]] && !strings.HasPrefix(statement, "insert") {
			problem("it locks every row until the migration ends: change rows in batches, as a job of the service")
		}
		m := alterTable.FindStringSubmatch(statement)
		if m == nil || created[m[1]] {
			continue
		}
		for _, action := range actions(m[2]) {
			for _, r := range refusedActions {
				if r.refuses(action) {
					problem(r.why)
					break
				}
			}
			if volatile.MatchString(action) {
				problem("a default that differs by row rewrites the table")
			}
		}
	}
	return problems
}

// actions splits the actions of an alter table at the commas outside of parentheses.
func actions(list string) (all []string) {
	depth, from := 0, 0
	for i, c := range list {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				all, from = append(all, strings.TrimSpace(list[from:i])), i+1
			}
		}
	}
	return append(all, strings.TrimSpace(list[from:]))
}

func TestTheMigrationLinterKnowsWhatBlocks(t *testing.T) {
	t.Parallel()
	for _, safe := range []string{
		"create table a (id int primary key, b text not null); create index a_b on a (b); insert into a values (1, ''); alter table a add check (id > 0);",
		"alter table calls add column x text;",
		"alter table calls add column x boolean not null default false, add column y text;",
		"alter table calls add constraint c check (x > 0) not valid;",
		"alter table calls validate constraint c;",
		"alter table calls add constraint c unique using index calls_x;",
		"-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently if not exists calls_x on calls (x);",
		"-- +goose NO TRANSACTION\n-- +goose Up\ncreate unique index concurrently if not exists calls_x on calls (x);",
		"alter table outbox set (autovacuum_vacuum_threshold = 2000);",
		"-- lint: the table has a few rows\nupdate signing_keys set x = 1;",
		"alter table calls alter column x set default 1;",
		"alter table calls add column at timestamptz not null default now();",
	} {
		require.Empty(t, lintMigration(safe), safe)
	}
	for _, unsafe := range []string{
		"create index calls_x on calls (x);",
		"create unique index calls_x on calls (x);",
		"alter table calls drop column x;",
		"alter table calls rename column x to y;",
		"alter table calls rename to phone_calls;",
		"alter table calls add column x text, drop constraint c;",
		"alter table calls alter column x type bigint;",
		"alter table calls alter x set data type bigint;",
		"alter table calls alter column x set not null;",
		"alter table calls add column x text not null;",
		"alter table calls add column x uuid default gen_random_uuid();",
		"alter table calls add column x uuid references clients;",
		"alter table calls add column x int generated always as (y + 1) stored;",
		"alter table calls add column x bigint generated always as identity;",
		"alter table calls add constraint c check (x > 0);",
		"alter table calls add check (x > 0);",
		"alter table calls add constraint c foreign key (x) references y;",
		"alter table calls add constraint c unique (x);",
		"alter table calls add primary key (x);",
		"update calls set x = 1;",
		"delete from calls where x = 1;",
		"drop table calls;", "truncate calls;", "drop index calls_x;", "reindex table calls;", "lock table calls;",
		"create table a (id int); create index b on calls (x);",
	} {
		require.NotEmpty(t, lintMigration(unsafe), unsafe)
	}
}

// What is released is what the tests of upgrades start from.
func TestTheReleasedCommitIsOne(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../released/commit")
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f]{40}\n$`, string(raw))
}
