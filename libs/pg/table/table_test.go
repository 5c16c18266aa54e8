package table_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/event/eventtest"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/network"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var at = time.Date(2026, 11, 24, 9, 0, 0, 123456000, time.UTC)

type thing struct {
	ID        string
	Name      string
	Rank      int64
	Left      *time.Duration
	Detail    *string // of the joined table
	CreatedAt time.Time
}

// store has a table of things and a joined table of details. saved records the calls of Save.
type store struct {
	*table.Table[thing]
	db    *pg.DB
	saved []string
}

func open(t *testing.T, change ...func(*table.Spec[thing])) *store {
	t.Helper()
	db := pgtest.Open(t, outbox.Migrations())
	_, err := db.Pool().Exec(t.Context(), `
		create table things (id uuid primary key, name text not null, rank bigint not null, ends_at timestamptz, created_at timestamptz not null, unique (name));
		create table details (id uuid primary key references things, detail text)`)
	require.NoError(t, err)
	s := &store{db: db}
	spec := table.Spec[thing]{
		Name: "things", From: "things t left join details d on d.id = t.id",
		Columns: func(x *thing) table.Columns {
			return table.Columns{
				table.Fixed("id", &x.ID), table.Col("name", &x.Name), table.Col("rank", &x.Rank), table.Remaining("ends_at", &x.Left),
				table.Fixed("created_at", &x.CreatedAt), table.Joined("d.detail", &x.Detail),
			}
		},
		Order: table.Order[thing]{Desc: true, Keys: []table.Key[thing]{
			{Name: "t.created_at", Type: "timestamptz", Of: func(x thing) any { return x.CreatedAt }},
			{Name: "t.id", Type: "uuid", Of: func(x thing) any { return x.ID }},
		}},
		Missing: func() error { return fault.New(fault.NotFound, "thing_not_found", "Thing not found") },
		Save: func(ctx context.Context, before, after *thing) error {
			old := "new"
			if before != nil {
				old = before.Name
			}
			s.saved = append(s.saved, old+" → "+after.Name)
			_, err := db.Conn(ctx).Exec(ctx, `insert into details values ($1, $2) on conflict (id) do update set detail = excluded.detail`, after.ID, after.Detail)
			return err
		},
	}
	for _, f := range change {
		f(&spec)
	}
	s.Table = table.New(db, outbox.New(db, telemetry.Nop()), spec)
	return s
}

func (s *store) add(t *testing.T, name string, created time.Time) thing {
	t.Helper()
	x := thing{ID: event.NewID(), Name: name, CreatedAt: created}
	ok, err := s.Create(t.Context(), &x, "", changed(x))
	require.NoError(t, err)
	require.True(t, ok)
	return x
}

func changed(x thing) event.Event {
	return eventtest.ThingChanged.New(at, eventtest.Thing{ID: x.ID, Name: x.Name})
}

func (s *store) events(t *testing.T) []string {
	return pgtest.Column[string](t, s.db, `select convert_from(data, 'UTF8')::jsonb->>'name' from outbox order by id`)
}

func TestARowIsReadBackAsWritten(t *testing.T) {
	t.Parallel()
	s := open(t)
	x := thing{ID: event.NewID(), Name: "a", Rank: 3, Detail: new("deep"), CreatedAt: at}
	created, err := s.Create(t.Context(), &x, "on conflict do nothing", changed(x))
	require.NoError(t, err)
	require.True(t, created)
	got, err := s.Find(t.Context(), x.ID)
	require.NoError(t, err)
	require.Equal(t, x, got)
	require.Equal(t, []string{"a"}, s.events(t))

	twin := thing{ID: event.NewID(), Name: "a", CreatedAt: at}
	created, err = s.Create(t.Context(), &twin, "on conflict do nothing", changed(twin))
	require.NoError(t, err)
	require.False(t, created)
	_, err = s.Create(t.Context(), &twin, "", changed(twin))
	require.True(t, pg.Unique(err, "things_name_key"))
	require.Equal(t, []string{"a"}, s.events(t), "a row that was not inserted has no event")
	_, err = s.Find(t.Context(), twin.ID)
	require.True(t, fault.Is(err, fault.NotFound))
}

func TestAChangeItsEventsAndSaveAreOneTransaction(t *testing.T) {
	t.Parallel()
	s := open(t)
	x := s.add(t, "a", at)
	changedRow, err := s.Change(t.Context(), x.ID, func(x *thing) ([]event.Event, error) {
		x.Name, x.Detail = "b", new("new")
		return []event.Event{changed(*x)}, nil
	})
	require.NoError(t, err)
	require.Equal(t, "b", changedRow.Name)
	got, err := s.Find(t.Context(), x.ID)
	require.NoError(t, err)
	require.Equal(t, changedRow, got)
	require.Equal(t, []string{"a", "b"}, s.events(t))
	require.Equal(t, []string{"new → a", "a → b"}, s.saved)

	refused := errors.New("no")
	_, err = s.Change(t.Context(), x.ID, func(x *thing) ([]event.Event, error) { x.Name = "c"; return nil, refused })
	require.ErrorIs(t, err, refused)
	broken := eventtest.ThingChanged.New(at, eventtest.Thing{ID: x.ID, Name: "c"})
	broken.ID = "no UUID"
	_, err = s.Change(t.Context(), x.ID, func(x *thing) ([]event.Event, error) { x.Name = "c"; return []event.Event{broken}, nil })
	require.Error(t, err)
	got, err = s.Find(t.Context(), x.ID)
	require.NoError(t, err)
	require.Equal(t, "b", got.Name, "a change whose event cannot be written is rolled back")
	require.Equal(t, []string{"a", "b"}, s.events(t))

	_, err = s.Change(t.Context(), event.NewID(), func(*thing) ([]event.Event, error) { panic("called without a row") })
	require.True(t, fault.Is(err, fault.NotFound))
}

func TestNetworkClientsRefuseCallsInsideAChange(t *testing.T) {
	t.Parallel()
	s := open(t, func(spec *table.Spec[thing]) {
		spec.Save = func(ctx context.Context, _, _ *thing) error { return network.Check(ctx) }
	})
	_, err := s.Create(t.Context(), &thing{ID: event.NewID(), CreatedAt: at}, "")
	require.ErrorIs(t, err, network.ErrInTransaction)
}

func TestRemovingARowPublishesItsLastEvent(t *testing.T) {
	t.Parallel()
	s := open(t, func(spec *table.Spec[thing]) { spec.Save = nil })
	x := s.add(t, "a", at)
	refused := errors.New("no")
	require.ErrorIs(t, s.Remove(t.Context(), x.ID, func(*thing) ([]event.Event, error) { return nil, refused }), refused)
	require.NoError(t, s.Remove(t.Context(), x.ID, func(x *thing) ([]event.Event, error) {
		x.Name = "removed"
		return []event.Event{changed(*x)}, nil
	}))
	require.True(t, fault.Is(s.Remove(t.Context(), x.ID, nil), fault.NotFound))
	require.Equal(t, []string{"a", "removed"}, s.events(t))
}

func TestRemainingUsesTheDatabasesClock(t *testing.T) {
	t.Parallel()
	s := open(t)
	x := s.add(t, "a", at)
	require.Nil(t, x.Left)
	_, err := s.Change(t.Context(), x.ID, func(x *thing) ([]event.Event, error) { x.Left = new(time.Hour); return nil, nil })
	require.NoError(t, err)
	require.Equal(t, []bool{true}, pgtest.Column[bool](t, s.db, `select ends_at between now() + interval '55 minutes' and now() + interval '60 minutes' from things`))
	var before, after time.Time
	read := func(to *time.Time) {
		require.NoError(t, s.db.Pool().QueryRow(t.Context(), `select ends_at from things`).Scan(to))
	}
	read(&before)
	_, err = s.Change(t.Context(), x.ID, func(x *thing) ([]event.Event, error) {
		require.Less(t, *x.Left, time.Hour)
		require.Greater(t, *x.Left, 55*time.Minute)
		return nil, nil
	})
	require.NoError(t, err)
	read(&after)
	require.Equal(t, before, after, "an unchanged time is written back exactly")
	_, err = s.db.Pool().Exec(t.Context(), `update things set ends_at = now() - interval '2 days 3 hours'`)
	require.NoError(t, err)
	got, err := s.Find(t.Context(), x.ID)
	require.NoError(t, err)
	require.InDelta(t, (-51 * time.Hour).Seconds(), got.Left.Seconds(), 60, "negative after the deadline")
}

func TestPagesHaveNoGapsOrOverlaps(t *testing.T) {
	t.Parallel()
	s := open(t)
	var want []string
	for i := range 9 {
		x := s.add(t, fmt.Sprint(i), at.Add(time.Duration(i/3)*time.Microsecond)) // three rows per timestamp
		want = append(want, x.ID)
	}
	slices.Reverse(want)
	var w table.Where
	w.And("t.name <> ?", "nobody")
	var got []string
	request := page.Request{Limit: 2}
	for pages := 0; ; pages++ {
		p, err := s.List(t.Context(), w, request)
		require.NoError(t, err)
		for _, x := range p.Items {
			got = append(got, x.ID)
		}
		if request.Cursor = p.Next; p.Next == "" {
			require.Equal(t, 4, pages)
			break
		}
	}
	require.Equal(t, want, got)
	p, err := s.List(t.Context(), table.Where{}, page.Request{Limit: 3, Skip: 8})
	require.NoError(t, err)
	require.Len(t, p.Items, 1)
	require.Empty(t, p.Next)
	for _, cursor := range []string{"x", page.Encode("a"), page.Encode(at, "no UUID"), page.Encode("no time", want[0]), page.Encode(at, want[0], 1)} {
		_, err := s.List(t.Context(), table.Where{}, page.Request{Limit: 3, Cursor: cursor})
		require.True(t, fault.Is(err, fault.Invalid), cursor)
	}
}

func TestChangeEachSkipsLockedRows(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 3 {
		s.add(t, fmt.Sprint(i), at.Add(time.Duration(i)*time.Second))
	}
	var w table.Where
	w.And("t.rank = ?", 0)
	each := func(ctx context.Context, limit int) (names []string) {
		n, err := s.ChangeEach(ctx, w, "t.created_at", limit, func(x *thing) ([]event.Event, error) {
			names = append(names, x.Name)
			x.Rank = 1
			return []event.Event{changed(*x)}, nil
		})
		require.NoError(t, err)
		require.Len(t, names, n)
		return names
	}
	require.NoError(t, s.db.InTx(t.Context(), func(ctx context.Context) error {
		_, err := s.db.Conn(ctx).Exec(ctx, `select from things where name = '0' for update`)
		require.NoError(t, err)
		require.Equal(t, []string{"1", "2"}, each(t.Context(), 5), "from another connection")
		return nil
	}))
	require.Equal(t, []string{"0"}, each(t.Context(), 5))
	require.Empty(t, each(t.Context(), 5))
	require.Len(t, s.events(t), 6)
}

func TestConditions(t *testing.T) {
	t.Parallel()
	var w table.Where
	require.Empty(t, w.String())
	w.And("a = ? or b = ?", 1, 2)
	w.If(false, "c = ?", 3)
	w.If(true, "d is null")
	w.And("e = ?", 4)
	require.Equal(t, " where (a = $1 or b = $2) and (d is null) and (e = $3)", w.String())
	require.Equal(t, `%100\%\_\\%`, table.Like(`100%_\`))
}

type copied struct {
	ID      string
	Version int64
	Name    *string
}

func TestACopyHasTheNewestVersion(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t)
	_, err := db.Pool().Exec(t.Context(), `create table copies (id uuid primary key, version bigint not null, name text)`)
	require.NoError(t, err)
	copies := table.NewCopies(db, "copies", func(c *copied) table.Columns {
		return table.Columns{
			table.Col("id", &c.ID), table.Col("version", &c.Version), table.Col("name", &c.Name),
		}
	})
	id := event.NewID()
	_, ok, err := copies.Find(t.Context(), id)
	require.NoError(t, err)
	require.False(t, ok)
	for _, step := range []struct {
		version int64
		name    *string
		want    *string
	}{{2, new("two"), new("two")}, {1, new("one"), new("two")}, {2, new("again"), new("two")}, {5, nil, nil}, {4, new("four"), nil}} {
		require.NoError(t, copies.Upsert(t.Context(), copied{id, step.version, step.name}))
		got, ok, err := copies.Find(t.Context(), id)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, step.want, got.Name, "after version %d", step.version)
	}
}
