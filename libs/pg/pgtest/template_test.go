package pgtest_test

import (
	"context"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

func things(sql string) pg.Migrations {
	return pg.Migrations{Name: "things", FS: fstest.MapFS{"0001_things.sql": {Data: []byte("-- +goose Up\n" + sql)}}}
}

func TestMigratedTablesAreATestsOwn(t *testing.T) {
	t.Parallel()
	migrations := things("create table things (id int); insert into things values (1);")
	one, other := pgtest.Open(t, migrations), pgtest.Open(t, migrations)
	for _, sql := range []string{`insert into things values (2)`, `alter table things add name text`, `create table more (id int)`} { // as the owner
		_, err := one.Pool().Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	require.Equal(t, []int{1}, pgtest.Column[int](t, other, `select id from things`))
	owner := `select distinct tableowner::text from pg_tables where schemaname = current_schema`
	require.Equal(t, []string{one.Schema()}, pgtest.Column[string](t, one, owner))
	require.Equal(t, []string{other.Schema()}, pgtest.Column[string](t, other, owner))
	_, err := one.Pool().Exec(t.Context(), `create schema another`)
	require.ErrorContains(t, err, "permission denied")
}

func TestOtherMigrationsMakeAnotherTemplate(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"before", "after"} {
		db := pgtest.Open(t, things("create table things ("+want+" int);"))
		require.Equal(t, []string{want}, pgtest.Column[string](t, db, `select column_name::text from information_schema.columns where table_name = 'things'`))
	}
}

// What the name of a template does not tell, such as the version of a library with migrations of its own, still runs on the copy.
func TestACopyIsMigratedToTheNewestVersion(t *testing.T) {
	t.Parallel()
	for _, column := range []string{"first", "second"} {
		db := pgtest.Open(t, pg.Migrations{Name: "newest", Extra: func(ctx context.Context, db *pg.DB) error {
			_, err := db.Pool().Exec(ctx, "create table if not exists "+column+" (id int)")
			return err
		}})
		require.Equal(t, []bool{true}, pgtest.Column[bool](t, db, `select to_regclass($1) is not null`, column))
	}
}

func TestAMigratedSchemaIsDroppedWithItsRoleAndConnections(t *testing.T) {
	t.Parallel()
	var role string
	t.Run("leave a transaction open", func(t *testing.T) {
		url := pgtest.Migrated(t, things("create table things (id int);"))
		conn := connect(t, url)
		require.NoError(t, conn.QueryRow(t.Context(), "select current_user::text").Scan(&role))
		_, err := conn.Exec(t.Context(), "begin; lock table things")
		require.NoError(t, err)
	})
	conn := connect(t, pgtest.Database(t))
	var left bool
	require.NoError(t, conn.QueryRow(t.Context(), `select exists (select from pg_roles where rolname = $1) or exists (select from pg_database where datname = $1)`, role).Scan(&left))
	require.False(t, left)
}
