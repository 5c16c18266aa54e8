package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/op"
	"github.com/convoflow/convoflow/libs/outbox"
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
	*store.Store
}

func open(t *testing.T) fixture {
	t.Helper()
	tel := telemetry.Nop()
	cfg := pg.Defaults()
	cfg.URL = conf.Secret(pgtest.Schema(t))
	db, err := pg.Open(t.Context(), cfg, "calls", tel)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	require.NoError(t, db.Migrate(t.Context(), outbox.Migrations(), job.Migrations(), store.Migrations()))
	chain, err := op.NewChain(tel, pg.Classify)
	require.NoError(t, err)
	queue, err := job.New(db, chain, tel)
	require.NoError(t, err)
	return fixture{db, tel, store.New(db, outbox.New(db, tel), queue, tel)}
}

func (f fixture) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, f.db.Conn(t.Context()).QueryRow(t.Context(), query, args...).Scan(&n))
	return n
}

// add writes a call that is complete unless change says otherwise.
func (f fixture) add(t *testing.T, agent string, at time.Time, change func(*call.Call)) call.Call {
	t.Helper()
	c, events := call.New(event.NewID(), agent, call.Details{CallType: "default"}, nil, call.Recording{Key: "k", ContentType: "audio/ogg", SizeBytes: 1, SHA256: "x"}, at)
	require.NoError(t, f.Create(t.Context(), c, events))
	c, err := f.Change(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) {
		change(c)
		return nil, nil
	})
	require.NoError(t, err)
	return c
}

func TestACallComesBackAsItWas(t *testing.T) {
	t.Parallel()
	f := open(t)
	agent, client, lead := event.NewID(), event.NewID(), event.NewID()
	want := f.add(t, agent, noon(), func(c *call.Call) {
		c.Status, c.Outcome, c.Progress, c.Attempts = call.Completed, new("ok"), 1, 3
		c.Problem = &call.Problem{Code: "c", Message: "m", Retryable: true}
		c.Details = call.Details{ClientID: &client, LeadID: &lead, CallType: "demo", CallTag: new("connected"), Language: new("en"), RecordedAt: new(noon())}
		c.Recording.Filename = new("a.ogg")
		c.DurationSeconds = new(12.5)
		c.Transcript = &call.Transcript{Text: "hello", Segments: []call.Segment{{Start: 1, End: 2, Speaker: new("agent"), Text: "hello"}}}
		c.Insights = call.Insights{
			Title: new("t"), Summary: new("s"), ActionItems: []string{"a"}, Sentiment: new("positive"), KeyTopics: []string{}, NextStep: new("n"),
			IntentCategory: new("interested"), IntentConfidence: new(0.5), InterestLevel: new("high"), Objections: []string{"o"}, CallbackTime: new(noon()),
		}
		c.Models = call.Models{Transcription: new("w"), Chat: new("g")}
		c.CompletedAt = new(noon())
		c.Lease = call.Lease{Epoch: 7, Until: new(noon()), Held: true, Failures: 2}
	})
	got, err := f.Find(t.Context(), want.ID)
	require.NoError(t, err)
	want.Next = nil
	require.Empty(t, cmp.Diff(want, got))

	page, err := f.List(t.Context(), call.Filter{Limit: 1})
	require.NoError(t, err)
	want.Transcript = nil
	require.Empty(t, cmp.Diff([]call.Call{want}, page.Calls))

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
	end := func(c *call.Call) { c.Status, c.Outcome, c.Lease.Until = call.Completed, new("ok"), nil }
	said := f.add(t, me, noon(), func(c *call.Call) {
		end(c)
		c.Transcript = &call.Transcript{Text: "the yearly plan is too expensive"}
		c.Insights.Sentiment, c.Insights.Summary = new("negative"), new("wants a discount")
		c.Details.ClientID, c.Details.LeadID = &client, &lead
	})
	other := f.add(t, event.NewID(), noon().Add(time.Hour), end)
	waiting := f.add(t, me, noon().Add(2*time.Hour), func(*call.Call) {})
	for name, c := range map[string]struct {
		filter call.Filter
		want   []call.Call
	}{
		"all":          {call.Filter{}, []call.Call{waiting, other, said}},
		"agent":        {call.Filter{AgentID: me}, []call.Call{waiting, said}},
		"status":       {call.Filter{Status: "pending"}, []call.Call{waiting}},
		"client":       {call.Filter{ClientID: client}, []call.Call{said}},
		"lead":         {call.Filter{LeadID: lead}, []call.Call{said}},
		"sentiment":    {call.Filter{Sentiment: "negative"}, []call.Call{said}},
		"from":         {call.Filter{From: new(noon().Add(time.Hour))}, []call.Call{waiting, other}},
		"to":           {call.Filter{To: new(noon().Add(time.Hour))}, []call.Call{said}},
		"transcript":   {call.Filter{Text: "plan yearly"}, []call.Call{said}},
		"summary":      {call.Filter{Text: "discount"}, []call.Call{said}},
		"phrase":       {call.Filter{Text: `"yearly expensive"`}, nil},
		"not":          {call.Filter{Text: "yearly -plan"}, nil},
		"odd query":    {call.Filter{Text: `' & | ! <-> (`}, nil},
		"ids":          {call.Filter{IDs: []string{other.ID, event.NewID()}}, []call.Call{other}},
		"no ids":       {call.Filter{IDs: []string{}}, nil},
		"lease over":   {call.Filter{LeaseBefore: new(noon().Add(3 * time.Hour))}, []call.Call{waiting}},
		"lease good":   {call.Filter{LeaseBefore: new(noon().Add(2 * time.Hour))}, nil},
		"skip":         {call.Filter{Skip: 2}, []call.Call{said}},
		"agent and to": {call.Filter{AgentID: me, To: new(noon().Add(time.Hour))}, []call.Call{said}},
	} {
		c.filter.Limit = 10
		page, err := f.List(t.Context(), c.filter)
		require.NoError(t, err, name)
		var got, want []string
		for _, c := range page.Calls {
			got = append(got, c.ID)
		}
		for _, c := range c.want {
			want = append(want, c.ID)
		}
		require.Equal(t, want, got, name)
		require.Empty(t, page.Next, name)
	}
	_, err := f.List(t.Context(), call.Filter{Cursor: "x", Limit: 1})
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
	filter := call.Filter{AgentID: me, Limit: 3}
	for pages := 1; ; pages++ {
		page, err := f.List(t.Context(), filter)
		require.NoError(t, err)
		for _, c := range page.Calls {
			require.False(t, seen[c.ID])
			seen[c.ID] = true
		}
		if filter.Cursor = page.Next; page.Next == "" {
			require.Equal(t, 3, pages)
			break
		}
	}
	require.Len(t, seen, 7)
}

func TestVeryLongTranscriptsAreKept(t *testing.T) {
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
	events, jobs := f.count(t, `select count(*) from outbox`), f.count(t, `select count(*) from river_job`)
	_, err := f.Change(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) {
		_, _ = c.Begin(1, noon())
		return nil, errors.New("no")
	})
	require.ErrorContains(t, err, "no")
	err = f.db.InTx(t.Context(), func(ctx context.Context) error {
		if _, err := f.Change(ctx, c.ID, func(c *call.Call) ([]event.Event, error) { return c.Begin(1, noon()) }); err != nil {
			return err
		}
		return errors.New("later")
	})
	require.ErrorContains(t, err, "later")
	got, err := f.Find(t.Context(), c.ID)
	require.NoError(t, err)
	require.Equal(t, c.Version, got.Version)
	require.Equal(t, events, f.count(t, `select count(*) from outbox`))
	require.Equal(t, jobs, f.count(t, `select count(*) from river_job`))
}

func TestOneOfManyWorkersBegins(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.add(t, event.NewID(), noon(), func(*call.Call) {})
	var wg sync.WaitGroup
	results := make(chan error, 8)
	for range cap(results) {
		wg.Go(func() {
			_, err := f.Change(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) { return c.Begin(1, noon()) })
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
		require.ErrorIs(t, err, call.ErrStale)
	}
	require.Equal(t, 1, won)
}

func TestWhatComesLaterJoinsTheTraceOfTheUpload(t *testing.T) {
	t.Parallel()
	f := open(t)
	ctx, span := f.tel.Tracer().Start(t.Context(), "upload")
	c, events := call.New(event.NewID(), event.NewID(), call.Details{CallType: "default"}, nil, call.Recording{}, noon())
	require.NoError(t, f.Create(ctx, c, events))
	span.End()
	_, err := f.Change(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) { return c.Reclaim(noon().Add(time.Hour)), nil })
	require.NoError(t, err)
	trace := span.SpanContext().TraceID().String()
	require.Equal(t, 2, f.count(t, `select count(*) from river_job where args->'trace'->>'traceparent' like '%' || $1 || '%'`, trace))
}

func TestRemovingTakesEverything(t *testing.T) {
	t.Parallel()
	f := open(t)
	c := f.add(t, event.NewID(), noon(), func(c *call.Call) { c.Transcript = &call.Transcript{Text: "x"} })
	remove := func(err error) error {
		return f.Remove(t.Context(), c.ID, func(_ context.Context, c *call.Call) ([]event.Event, error) { return c.Deleted(noon()), err })
	}
	require.Error(t, remove(errors.New("the storage is away")))
	require.Equal(t, 1, f.count(t, `select count(*) from calls`))
	require.NoError(t, remove(nil))
	require.Equal(t, 0, f.count(t, `select count(*) from calls`)+f.count(t, `select count(*) from transcripts`))
	require.Equal(t, 1, f.count(t, `select count(*) from outbox where type = 'call.deleted'`))
	require.True(t, fault.Is(remove(nil), fault.NotFound))
}

type crm struct {
	agent string
	err   error
	asked int
}

func (c *crm) Get(_ context.Context, _ string, into any) error {
	c.asked++
	if c.err != nil {
		return c.err
	}
	return json.Unmarshal([]byte(`{"agent_id":"`+c.agent+`"}`), into)
}

func TestClientsAreCopiedByVersion(t *testing.T) {
	t.Parallel()
	f := open(t)
	me, other, id := event.NewID(), event.NewID(), event.NewID()
	peer := &crm{agent: me}
	clients := store.NewClients(f.db, peer)
	owner, err := clients.Owner(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, me, owner)
	require.Equal(t, 1, peer.asked)
	for kind, code := range map[fault.Kind]string{fault.NotFound: "client_not_found", fault.Forbidden: "client_forbidden", fault.Unavailable: "away"} {
		peer.err = fault.New(kind, "away", "")
		_, err = clients.Owner(t.Context(), id)
		require.Equal(t, code, fault.Of(err).Code)
	}
	for _, c := range []struct {
		client call.Client
		want   string
	}{
		{call.Client{ID: id, AgentID: me, Version: 1}, me},
		{call.Client{ID: id, AgentID: other, Version: 3}, other},
		{call.Client{ID: id, AgentID: me, Version: 2}, other},
		{call.Client{ID: id, AgentID: me, Version: 5, Deleted: true}, ""},
		{call.Client{ID: id, AgentID: me, Version: 4}, ""},
	} {
		require.NoError(t, clients.Keep(t.Context(), c.client))
		owner, err := clients.Owner(t.Context(), id)
		if c.want == "" {
			require.Equal(t, "client_not_found", fault.Of(err).Code)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, owner)
	}
}
