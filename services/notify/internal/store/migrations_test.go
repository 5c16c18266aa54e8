package store_test

import (
	"io/fs"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/notify/internal/store"
)

func TestOpenDeliveriesOutliveTheMigrationToLeases(t *testing.T) {
	t.Parallel()
	whole := store.Migrations()
	first, err := fs.ReadFile(whole.FS, "0001_notify.sql")
	require.NoError(t, err)
	db := pgtest.Open(t, pg.Migrations{Name: whole.Name, FS: fstest.MapFS{"0001_notify.sql": {Data: first}}})
	_, err = db.Pool().Exec(t.Context(), `
		insert into endpoints values (gen_random_uuid(), '', '', '{*}', 'pabbly', true, null, 'api', now(), now());
		insert into deliveries (id, endpoint_id, event, event_id, event_time, data, status, attempts, epoch, lease_until, trace, created_at, updated_at)
		select ('01935c5e-0000-7000-8000-00000000000' || n)::uuid, endpoints.id, 'x', gen_random_uuid(), now(), '', status, 3, 7, lease, '{}', now(), now()
		from endpoints, (values (1, 'pending', null), (2, 'retrying', now() + interval '1 minute'), (3, 'held', null), (4, 'dead', null), (5, 'delivered', null)) as old (n, status, lease)`)
	require.NoError(t, err)
	require.NoError(t, db.Migrate(t.Context(), whole))
	rows := pgtest.Column[string](t, db, `
		select concat_ws(' ', status, lease_epoch, lease_until <= now(), lease_holder, attempts, failures) from deliveries order by 1`)
	require.Equal(t, []string{"dead 7 3 3", "delivered 7 3 2", "pending 7 t migration 3 3", "retrying 7 3 3", "retrying 7 t migration 3 3"}, rows,
		"they look as if their worker had lost its lease")
}

// upTo are the migrations to that one.
func upTo(t *testing.T, last string) pg.Migrations {
	t.Helper()
	whole, some := store.Migrations(), fstest.MapFS{}
	names, err := fs.Glob(whole.FS, "*.sql")
	require.NoError(t, err)
	for _, name := range names {
		if name <= last {
			data, err := fs.ReadFile(whole.FS, name)
			require.NoError(t, err)
			some[name] = &fstest.MapFile{Data: data}
		}
	}
	return pg.Migrations{Name: whole.Name, FS: some}
}

// Deliveries of the version before, some of which it has leases of, and what it still does while it runs beside the new one (ADR 36).
func TestTheFormerTableIsTheFirstPartition(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t, upTo(t, "0101_endpoints.sql"))
	exec := func(sql string, args ...any) error { _, err := db.Pool().Exec(t.Context(), sql, args...); return err }
	require.NoError(t, exec(`insert into endpoints (id, url, secrets, events, profile, enabled, origin, created_at, updated_at) values (gen_random_uuid(), '', '', '{*}', 'pabbly', true, 'api', now(), now())`))
	for status, holder := range map[string]*string{"pending": nil, "retrying": new("old/1"), "held": nil, "dead": nil, "delivered": nil} {
		require.NoError(t, exec(`
			insert into deliveries (id, endpoint_id, event, event_id, event_time, data, status, attempts, failures, next_attempt_at, lease_epoch, lease_holder, lease_until, trace, created_at, updated_at)
			select $1, endpoints.id, 'x', gen_random_uuid(), now(), '{}', $2, 1, 1, now(), 7, $3, now() + case when $3::text is not null then interval '1 minute' end, '{}', now(), now() from endpoints`,
			event.NewID(), status, holder))
	}
	require.NoError(t, exec(`insert into attempts select id, 1, now(), 5, 500, null, '', '' from deliveries`))
	require.NoError(t, db.Migrate(t.Context(), store.Migrations()))
	require.NoError(t, store.NewPartitions(db, time.Hour).Upkeep(t.Context()))

	rows := pgtest.Column[string](t, db, `select concat_ws(' ', status, lease_holder, next_attempt_at <= now(), tableoid::regclass) from deliveries order by 1`)
	require.Equal(t, []string{"dead t deliveries_first", "delivered t deliveries_first", "pending t deliveries_first", "retrying old/1 t deliveries_first", "retrying t deliveries_first"}, rows)
	require.Equal(t, []int{5}, pgtest.Column[int](t, db, `select count(*)::int from attempts`))
	require.Equal(t, []int{5}, pgtest.Column[int](t, db, `select count(*)::int from seen s join deliveries d on d.id = s.delivery_id and d.event_id = s.event_id`))

	// The former version ends its attempts, and cannot make deliveries: its consumers wait, because the cause counts as transient.
	require.NoError(t, exec(`update deliveries set status = 'delivered', next_attempt_at = null, lease_holder = null, lease_until = null, lease_epoch = lease_epoch + 1 where lease_holder = 'old/1'`))
	require.NoError(t, exec(`insert into attempts select id, 2, now(), 5, 200, null, '', '' from deliveries where lease_epoch = 8`))
	var refused *pgconn.PgError
	require.ErrorAs(t, exec(`
		insert into deliveries (id, endpoint_id, event, event_id, event_time, data, status, attempts, failures, lease_epoch, trace, created_at, updated_at)
		select $1, id, 'x', gen_random_uuid(), now(), '{}', 'pending', 0, 0, 1, '{}', now(), now() from endpoints on conflict (event_id, endpoint_id) do nothing`, event.NewID()), &refused)
	require.Equal(t, "42P10", refused.Code)
	require.Equal(t, refused, pg.Classify(refused), "no fault, which would be dead-lettered")
	require.ErrorAs(t, exec(`update deliveries set status = 'held' where status = 'pending'`), &refused)
}
