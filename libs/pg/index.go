package pg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
)

// concurrentIndex is the only statement of a file that runs outside of a transaction. It must be repeatable: PostgreSQL may have built
// the index when the process is killed before the version is recorded.
var concurrentIndex = regexp.MustCompile(`(?is)^create\s+(?:unique\s+)?index\s+concurrently\s+if\s+not\s+exists\s+([a-z0-9_]+)\s+on\s+[^;]+;?$`)

// concurrentDrop is the other statement that may be in such a file.
var concurrentDrop = regexp.MustCompile(`(?is)^drop\s+index\s+concurrently\s+if\s+exists\s+[a-z0-9_]+\s*;?$`)

var sqlComment = regexp.MustCompile(`--[^\n]*`)

// concurrentIndexes returns the names of the indexes that the files of a set build concurrently, by version; the name is empty for a
// file that removes one. It fails for a file that runs outside of a transaction and does anything else: half of it would remain after
// a failure.
func (m Migrations) concurrentIndexes() (map[int64]string, error) {
	files, err := fs.Glob(m.FS, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("read the migrations of %s: %w", m.Name, err)
	}
	found := map[int64]string{}
	for _, file := range files {
		text, err := fs.ReadFile(m.FS, file)
		if err != nil {
			return nil, fmt.Errorf("read the migrations of %s: %w", m.Name, err)
		}
		if !strings.Contains(strings.ToUpper(string(text)), "+GOOSE NO TRANSACTION") {
			continue
		}
		version, err := versionOf(file)
		if err != nil {
			return nil, err
		}
		statement := strings.TrimSpace(sqlComment.ReplaceAllString(string(text), ""))
		if concurrentDrop.MatchString(statement) {
			found[version] = ""
			continue
		}
		created := concurrentIndex.FindStringSubmatch(statement)
		if created == nil {
			return nil, fmt.Errorf("migration %s of %s: a file without a transaction is exactly one: create index concurrently if not exists <name> on …, or drop index concurrently if exists <name>", file, m.Name)
		}
		found[version] = strings.ToLower(created[1])
	}
	return found, nil
}

// versionOf returns the number that the name of a migration begins with.
func versionOf(file string) (int64, error) {
	number, _, _ := strings.Cut(file, "_")
	version, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the migration %s has no number", file)
	}
	return version, nil
}

// migrateOneByOne runs the pending files of a set of which some build indexes concurrently. Such a build waits for every transaction
// that was open when it began, so it has no lock timeout. It blocks nobody meanwhile. A build that was interrupted leaves an invalid
// index, which "if not exists" would take for a good one: it is removed first.
func (db *DB) migrateOneByOne(ctx context.Context, inTx *goose.Provider, set Migrations, indexes map[int64]string) (done []*goose.MigrationResult, err error) {
	sqlDB := db.open("statement_timeout", "lock_timeout")
	defer func() { _ = sqlDB.Close() }()
	building, err := set.provider(sqlDB)
	if err != nil {
		return nil, err
	}
	all, err := inTx.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.State != goose.StatePending {
			continue
		}
		provider := inTx
		if index, ok := indexes[m.Source.Version]; ok {
			provider = building
			db.tel.Log.InfoContext(ctx, "building or removing an index, which waits for all open transactions", "index", index, "version", m.Source.Version)
			if err := db.dropInvalid(ctx, index); err != nil {
				return done, err
			}
		}
		result, err := provider.ApplyVersion(ctx, m.Source.Version, true)
		if err != nil {
			return done, err
		}
		done = append(done, result)
	}
	return done, nil
}

// dropInvalid removes an index of which the build was interrupted. Nobody uses an invalid index, but every write maintains it.
func (db *DB) dropInvalid(ctx context.Context, index string) error {
	if index == "" {
		return nil
	}
	cc := db.pool.Config().ConnConfig.Copy()
	for _, timeout := range []string{"statement_timeout", "lock_timeout"} {
		delete(cc.RuntimeParams, timeout)
	}
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return fmt.Errorf("connect to build the index %s: %w", index, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var invalid bool
	err = conn.QueryRow(ctx, `select not i.indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = $1 and c.relname = $2`, db.schema, index).Scan(&invalid)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && !invalid {
		return nil
	}
	if err == nil {
		_, err = conn.Exec(ctx, "drop index concurrently if exists "+pgx.Identifier{index}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("remove the index %s, whose build was interrupted: %w", index, err)
	}
	return nil
}

// Pending returns the migrations that the schema does not have yet, and those that it has and the sets do not know, because a newer
// version of the service was here. It changes nothing.
func (db *DB) Pending(ctx context.Context, sets ...Migrations) (pending, unknown []string, err error) {
	for _, set := range sets {
		if set.FS == nil {
			continue
		}
		applied, err := db.applied(ctx, set.Name)
		if err != nil {
			return nil, nil, err
		}
		files, err := fs.Glob(set.FS, "*.sql")
		if err != nil {
			return nil, nil, fmt.Errorf("read the migrations of %s: %w", set.Name, err)
		}
		for _, file := range files {
			version, err := versionOf(file)
			if err != nil {
				return nil, nil, err
			}
			if !applied[version] {
				pending = append(pending, set.Name+"/"+file)
			}
			delete(applied, version)
		}
		delete(applied, 0) // goose's own row
		for version := range applied {
			unknown = append(unknown, fmt.Sprintf("%s/%04d", set.Name, version))
		}
	}
	return pending, unknown, nil
}

// applied returns the versions of a set that the schema has.
func (db *DB) applied(ctx context.Context, set string) (map[int64]bool, error) {
	table := pgx.Identifier{db.schema, "migrations_" + set}.Sanitize()
	var exists bool
	if err := db.pool.QueryRow(ctx, "select to_regclass($1) is not null", table).Scan(&exists); err != nil {
		return nil, fmt.Errorf("read the migrations of %s: %w", set, err)
	}
	versions := map[int64]bool{}
	if !exists {
		return versions, nil
	}
	rows, err := db.pool.Query(ctx, "select version_id from "+table+" where is_applied")
	if err != nil {
		return nil, fmt.Errorf("read the migrations of %s: %w", set, err)
	}
	var version int64
	_, err = pgx.ForEachRow(rows, []any{&version}, func() error { versions[version] = true; return nil })
	return versions, err
}
