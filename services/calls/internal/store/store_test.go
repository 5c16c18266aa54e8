package store_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/job/jobtest"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func noon() time.Time { return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) }

type fixture struct {
	db  *pg.DB
	tel telemetry.Set
	call.Store
}

func open(t *testing.T) fixture {
	t.Helper()
	return on(t, pgtest.Open(t, outbox.Migrations(), job.Migrations(), store.Migrations()))
}

func on(t *testing.T, db *pg.DB) fixture {
	t.Helper()
	tel := telemetry.Nop()
	jobs := jobtest.Queue(t, db, store.Transcribe, store.Erase)
	return fixture{db, tel, store.Calls(db, outbox.New(db, tel), jobs, tel)}
}

func (f fixture) count(t *testing.T, table string) int {
	t.Helper()
	return pgtest.Column[int](t, f.db, `select count(*) from `+table)[0]
}

func create(agent string, at time.Time) (call.Call, []event.Event) {
	details := call.Details{CallType: "default", CallTag: "connected", RecordedAt: at}
	return call.New(event.NewID(), agent, details, nil, call.Recording{Key: "k", Filename: new("a.ogg"), ContentType: "audio/ogg", SizeBytes: 1, SHA256: "x"}, at)
}

// add stores a call after change has changed it.
func (f fixture) add(t *testing.T, agent string, at time.Time, change func(*call.Call)) call.Call {
	t.Helper()
	c, events := create(agent, at)
	require.NoError(t, f.Create(t.Context(), c, events...))
	c, err := f.Change(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) {
		change(c)
		return nil, nil
	})
	require.NoError(t, err)
	return c
}

func filter(edit func(*call.Filter)) call.Filter {
	f := call.Filter{ListRequest: call.ListRequest{Request: page.Request{Limit: 10}}}
	edit(&f)
	return f
}

func TestAllFieldsOfACallAreStored(t *testing.T) {
	t.Parallel()
	f := open(t)
	agent, client, lead := event.NewID(), event.NewID(), event.NewID()
	want := f.add(t, agent, noon(), func(c *call.Call) {
		c.Status, c.Outcome, c.Progress = call.Completed, new("ok"), 1
		c.Problem = &call.Problem{Code: "c", Message: "m", Retryable: true}
		c.Details = call.Details{ClientID: &client, LeadID: &lead, CallType: "demo", CallTag: "no_answer", Language: new("en"), RecordedAt: noon().Add(-time.Hour), Title: new("mine"), Notes: new("later")}
		c.PabblySent = true
		c.DurationSeconds = new(12.5)
		c.Transcript = &call.Transcript{Text: "hello", Segments: []call.Segment{{Start: 1, End: 2, Speaker: new("agent"), Text: "hello"}}}
		c.Insights = call.Insights{
			Title: new("t"), Summary: new("s"), ActionItems: []string{"a"}, Sentiment: new("positive"), KeyTopics: []string{}, NextStep: new("n"),
			IntentCategory: new("interested"), IntentConfidence: new(0.5), InterestLevel: new("high"), Objections: []string{"o"}, CallbackTime: new(noon()),
			Fields: map[string]any{"timeline": "soon", "pain_points": []any{"x"}}, Evidence: []call.Evidence{{Kind: "next_step", Claim: "n", Quote: "hello", Start: 1}},
		}
		c.Step, c.Run, c.Coverage, c.WaitingSince = new("waiting"), 2, new(0.5), new(noon())
		c.Speakers = map[string]call.Speaker{"agent": {Name: new("Ann"), Role: new("agent")}}
		c.Talk = &call.Talk{AgentRatio: 0.5, LongestMonologue: 2, Questions: 1, WordsPerMinute: 120, Silence: 3, Turns: 2}
		c.Models = call.Models{Transcription: new("w"), Chat: new("g")}
		c.CompletedAt = new(noon())
		c.Lease = lease.Lease{Epoch: 7, Holder: new("w"), Left: new(36 * time.Hour), Attempts: 3, Failures: 2}
	})
	got, err := f.Find(t.Context(), want.ID)
	require.NoError(t, err)
	sameLease := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Left" }, cmp.Comparer(func(a, b *time.Duration) bool {
		return (a == nil) == (b == nil) && (a == nil || (*a-*b).Abs() < time.Hour) // the database's clock runs
	}))
	require.Empty(t, cmp.Diff(want, got, sameLease))

	found, err := f.List(t.Context(), filter(func(*call.Filter) {}))
	require.NoError(t, err)
	want.Transcript, want.Insights.Fields, want.Insights.Evidence = nil, nil, nil
	require.Empty(t, cmp.Diff([]call.Call{want}, found.Items, sameLease))

	_, err = f.Change(t.Context(), want.ID, func(c *call.Call) ([]event.Event, error) {
		c.Transcript = nil
		return nil, nil
	})
	require.NoError(t, err)
	got, err = f.Find(t.Context(), want.ID)
	require.NoError(t, err)
	require.Nil(t, got.Transcript)
	_, err = f.Find(t.Context(), event.NewID())
	require.True(t, fault.Is(err, fault.NotFound))
}

func TestEveryFilter(t *testing.T) {
	t.Parallel()
	f := open(t)
	me, client, lead := event.NewID(), event.NewID(), event.NewID()
	end := func(c *call.Call) { c.Status, c.Outcome = call.Completed, new("ok") }
	said := f.add(t, me, noon(), func(c *call.Call) {
		end(c)
		c.Transcript = &call.Transcript{Text: "the yearly plan is too expensive"}
		c.Insights.Sentiment, c.Insights.Summary = new("negative"), new("wants a discount")
		c.Details.ClientID, c.Details.LeadID = &client, &lead
	})
	other := f.add(t, event.NewID(), noon().Add(time.Hour), end)
	waiting := f.add(t, me, noon().Add(2*time.Hour), func(*call.Call) {})
	for name, c := range map[string]struct {
		edit func(*call.Filter)
		want []call.Call
	}{
		"all":          {func(*call.Filter) {}, []call.Call{waiting, other, said}},
		"agent":        {func(f *call.Filter) { f.AgentID = me }, []call.Call{waiting, said}},
		"status":       {func(f *call.Filter) { f.Status = "pending" }, []call.Call{waiting}},
		"client":       {func(f *call.Filter) { f.ClientID = client }, []call.Call{said}},
		"lead":         {func(f *call.Filter) { f.LeadID = lead }, []call.Call{said}},
		"sentiment":    {func(f *call.Filter) { f.Sentiment = "negative" }, []call.Call{said}},
		"from":         {func(f *call.Filter) { f.From = new(noon().Add(time.Hour)) }, []call.Call{waiting, other}},
		"to":           {func(f *call.Filter) { f.To = new(noon().Add(time.Hour)) }, []call.Call{said}},
		"transcript":   {func(f *call.Filter) { f.Text = "plan yearly" }, []call.Call{said}},
		"summary":      {func(f *call.Filter) { f.Text = "discount" }, []call.Call{said}},
		"phrase":       {func(f *call.Filter) { f.Text = `"yearly expensive"` }, nil},
		"not":          {func(f *call.Filter) { f.Text = "yearly -plan" }, nil},
		"odd query":    {func(f *call.Filter) { f.Text = `' & | ! <-> (` }, nil},
		"ids":          {func(f *call.Filter) { f.IDs = []string{other.ID, event.NewID()} }, []call.Call{other}},
		"no ids":       {func(f *call.Filter) { f.IDs = []string{} }, nil},
		"skip":         {func(f *call.Filter) { f.Skip = 2 }, []call.Call{said}},
		"agent and to": {func(f *call.Filter) { f.AgentID, f.To = me, new(noon().Add(time.Hour)) }, []call.Call{said}},
	} {
		found, err := f.List(t.Context(), filter(c.edit))
		require.NoError(t, err, name)
		var got, want []string
		for _, c := range found.Items {
			got = append(got, c.ID)
		}
		for _, c := range c.want {
			want = append(want, c.ID)
		}
		require.Equal(t, want, got, name)
		require.Empty(t, found.Next, name)
	}
	_, err := f.List(t.Context(), filter(func(f *call.Filter) { f.Cursor = "x" }))
	require.True(t, fault.Is(err, fault.Invalid))
}

func TestPagesAreCompleteAlsoWhenTimesAreEqual(t *testing.T) {
	t.Parallel()
	f := open(t)
	me := event.NewID()
	for range 7 {
		f.add(t, me, noon(), func(*call.Call) {})
	}
	seen := map[string]bool{}
	next := filter(func(f *call.Filter) { f.AgentID, f.Limit = me, 3 })
	for pages := 1; ; pages++ {
		found, err := f.List(t.Context(), next)
		require.NoError(t, err)
		for _, c := range found.Items {
			require.False(t, seen[c.ID])
			seen[c.ID] = true
		}
		if next.Cursor = found.Next; found.Next == "" {
			require.Equal(t, 3, pages)
			break
		}
	}
	require.Len(t, seen, 7)
}

func TestVeryLongTranscriptsAreStored(t *testing.T) {
	t.Parallel()
	f := open(t)
	var words strings.Builder
	for range 400_000 {
		words.WriteString(event.NewID()[24:])
		words.WriteByte(' ')
	}
	c := f.add(t, event.NewID(), noon(), func(c *call.Call) {
		c.Transcript, c.Status = &call.Transcript{Text: words.String()}, call.Completed
	})
	got, err := f.Find(t.Context(), c.ID)
	require.NoError(t, err)
	require.Len(t, got.Transcript.Text, words.Len())
}

func TestAChangeIsAllOrNothing(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.add(t, event.NewID(), noon(), func(*call.Call) {})
	events, jobs := f.count(t, "outbox"), f.count(t, "river_job")
	_, err := f.Change(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) {
		_, _ = begin(c)
		return nil, errors.New("no")
	})
	require.ErrorContains(t, err, "no")
	err = f.db.InTx(t.Context(), func(ctx context.Context) error {
		if _, err := f.Change(ctx, c.ID, func(c *call.Call) ([]event.Event, error) { return begin(c) }); err != nil {
			return err
		}
		return errors.New("later")
	})
	require.ErrorContains(t, err, "later")
	got, err := f.Find(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, c.Version, got.Version)
	require.Equal(t, events, f.count(t, "outbox"))
	require.Equal(t, jobs, f.count(t, "river_job"))
}

func TestOneOfManyWorkersBegins(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.add(t, event.NewID(), noon(), func(*call.Call) {})
	var wg sync.WaitGroup
	results := make(chan error, 8)
	for range cap(results) {
		wg.Go(func() {
			_, err := f.Change(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) { return begin(c) })
			results <- err
		})
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		if err == nil {
			won++
			continue
		}
		require.ErrorIs(t, err, lease.ErrSuperseded)
	}
	require.Equal(t, 1, won)
}

func begin(c *call.Call) ([]event.Event, error) { return c.Begin(1, "w", time.Minute, noon()) }

func TestLaterWorkJoinsTheTraceOfTheUpload(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx, span := f.tel.Tracer().Start(t.Context(), "upload")
	c, events := create(event.NewID(), noon())
	require.NoError(t, f.Create(ctx, c, events...))
	span.End()
	_, err := f.Change(t.Context(), c.ID, begin)
	require.NoError(t, err)
	_, err = f.Change(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) { return nil, c.HandBack(c.Lease.Epoch, noon()) })
	require.NoError(t, err)
	trace := span.SpanContext().TraceID().String()
	require.Len(t, pgtest.Column[int64](t, f.db, `select id from river_job where args->'trace'->>'traceparent' like '%' || $1 || '%'`, trace), 2)
	require.Len(t, pgtest.Column[int64](t, f.db, `select id from outbox where trace->>'traceparent' like '%' || $1 || '%'`, trace), 2)
}

func TestRemovingTakesEverything(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.add(t, event.NewID(), noon(), func(c *call.Call) { c.Transcript = &call.Transcript{Text: "x"} })
	remove := func(err error) error {
		return f.Remove(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) { return c.Delete(noon()), err })
	}
	require.Error(t, remove(errors.New("not yours")))
	require.Equal(t, 1, f.count(t, "calls"))
	require.Zero(t, f.count(t, "erasures"))
	require.NoError(t, remove(nil))
	require.Zero(t, f.count(t, "calls")+f.count(t, "transcripts"))
	require.Equal(t, 1, f.count(t, "outbox where type = 'call.deleted'"))
	require.True(t, fault.Is(remove(nil), fault.NotFound))

	erasure, ok, err := store.Erasures(f.db, outbox.New(f.db, f.tel)).Find(t.Context(), c.ID)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, call.Erasure{ID: c.ID, AudioKey: "k"}, erasure)
	require.Equal(t, 1, f.count(t, "river_job where kind = 'calls.erase'"))
}

func TestTheSearchOfACallThatIsRetriedForgetsIt(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.add(t, event.NewID(), noon(), func(c *call.Call) { c.Status, c.Insights.Title = call.Completed, new("discount") })
	search := func() []string {
		found, err := f.List(t.Context(), filter(func(f *call.Filter) { f.Text = "discount" }))
		require.NoError(t, err)
		var ids []string
		for _, c := range found.Items {
			ids = append(ids, c.ID)
		}
		return ids
	}
	require.Equal(t, []string{c.ID}, search())
	_, err := f.Change(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) { return c.Retry(nil, nil, noon()) })
	require.NoError(t, err)
	require.Empty(t, search())
}

func TestARevisionFollowsTheCall(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.add(t, event.NewID(), noon(), func(c *call.Call) { c.Version++ })
	got, err := store.Revisions(f.db).Find(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, call.Revision{ID: c.ID, AgentID: c.AgentID, Version: c.Version}, got)
	_, err = store.Revisions(f.db).Find(t.Context(), event.NewID())
	require.Equal(t, "call_not_found", fault.Of(err).Code)
}

func TestCopiesOfClientsOnlyGrowNewer(t *testing.T) {
	t.Parallel()
	f := open(t)
	clients, me, other, id := store.Clients(f.db), event.NewID(), event.NewID(), event.NewID()
	_, ok, err := clients.Find(t.Context(), id)
	require.NoError(t, err)
	require.False(t, ok)
	for _, c := range []struct {
		client call.Client
		want   call.Client
	}{
		{call.Client{ID: id, AgentID: other}, call.Client{ID: id, AgentID: other}},
		{call.Client{ID: id, AgentID: me, Version: 1}, call.Client{ID: id, AgentID: me, Version: 1}},
		{call.Client{ID: id, AgentID: other, Version: 3}, call.Client{ID: id, AgentID: other, Version: 3}},
		{call.Client{ID: id, AgentID: me, Version: 2}, call.Client{ID: id, AgentID: other, Version: 3}},
		{call.Client{ID: id, AgentID: me, Version: 5, Deleted: true}, call.Client{ID: id, AgentID: me, Version: 5, Deleted: true}},
		{call.Client{ID: id, AgentID: me, Version: 4}, call.Client{ID: id, AgentID: me, Version: 5, Deleted: true}},
		{call.Client{ID: id, AgentID: me}, call.Client{ID: id, AgentID: me, Version: 5, Deleted: true}},
	} {
		require.NoError(t, clients.Upsert(t.Context(), c.client))
		got, ok, err := clients.Find(t.Context(), id)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, c.want, got)
	}
}

// Rows of an earlier version continue: a call with a worker, one with a job, and rows that had no date.
func TestCallsOfTheEarlierLeaseAreMigrated(t *testing.T) {
	t.Parallel()
	first, err := os.ReadFile("migrations/0001_calls.sql")
	require.NoError(t, err)
	db := pgtest.Open(t, outbox.Migrations(), job.Migrations(), pg.Migrations{Name: "calls", FS: fstest.MapFS{"0001_calls.sql": {Data: first}}})
	working, waiting := event.NewID(), event.NewID()
	for id, held := range map[string]bool{working: true, waiting: false} {
		_, err := db.Pool().Exec(t.Context(), `
			insert into calls (id, agent_id, version, status, progress, attempts, call_type, audio_key, content_type, size_bytes, sha256,
				created_at, updated_at, lease_epoch, lease_until, lease_held, lease_failures, trace)
			values ($1, $1, 1, 'transcribing', 0, 2, 'default', 'k', 'audio/ogg', 1, 'x', $3, $3, 4, now() - interval '1 second', $2, 1, '{}')`, id, held, noon())
		require.NoError(t, err)
		_, err = db.Pool().Exec(t.Context(), `insert into river_job (state, queue, kind, args, max_attempts) values ('available', 'default', 'work', jsonb_build_object('id', $1::text, 'epoch', 4), 10)`, id)
		require.NoError(t, err)
	}
	require.NoError(t, db.Migrate(t.Context(), store.Migrations()))
	f := on(t, db)
	for id, held := range map[string]bool{working: true, waiting: false} {
		c, err := f.Find(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, int64(4), c.Lease.Epoch)
		require.Equal(t, 2, c.Lease.Attempts)
		require.Equal(t, 1, c.Lease.Failures)
		require.Equal(t, held, c.Lease.Holder != nil)
		require.Equal(t, held, c.Lease.Expired(), "a worker that is silent loses its lease")
		require.Equal(t, noon(), c.Details.RecordedAt)
		require.Equal(t, "connected", c.Details.CallTag)
	}
	require.Equal(t, 2, f.count(t, "river_job where kind = 'calls.transcribe' and queue = 'calls_transcribe'"))
}

// What was uploaded on a day is known also when its calls were deleted.
func TestTheAudioOfADayOutlivesItsCalls(t *testing.T) {
	t.Parallel()
	f, me, other := open(t), event.NewID(), event.NewID()
	lasts := func(seconds float64) func(*call.Call) { return func(c *call.Call) { c.DurationSeconds = &seconds } }
	claimed := f.add(t, me, noon(), lasts(1000))
	f.add(t, me, noon(), lasts(7))
	f.add(t, me, noon().AddDate(0, 0, -1), lasts(50))
	f.add(t, other, noon(), lasts(30))
	_, err := f.Change(t.Context(), claimed.ID, func(c *call.Call) ([]event.Event, error) {
		lasts(60)(c)
		return nil, nil
	})
	require.NoError(t, err)
	require.NoError(t, f.Remove(t.Context(), claimed.ID, func(*call.Call) ([]event.Event, error) { return nil, nil }))
	for agent, want := range map[string]float64{me: 67, other: 30, "": 97} {
		used, err := store.Consumption(f.db).Find(t.Context(), agent, noon().Truncate(24*time.Hour))
		require.NoError(t, err)
		require.InDelta(t, want, used.SecondsToday, 1e-9)
	}
}
