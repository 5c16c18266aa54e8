package call_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/job/jobtest"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// fixture is a processor on the real store. The bucket, ffmpeg and the provider are fakes.
type fixture struct {
	db        *pg.DB
	calls     call.Store
	clock     *clock.Manual
	processor *call.Processor
	bucket    *bucket
	provider  *provider
	missing   atomic.Int64 // recordings that are not in the bucket
	observer  *observer
}

func open(t *testing.T) *fixture {
	t.Helper()
	tel := telemetry.Nop()
	db := pgtest.Open(t, outbox.Migrations(), idempotency.Migrations(), job.Migrations(), store.Migrations())
	jobs := jobtest.Queue(t, db, store.Transcribe, store.Erase)
	f := &fixture{db: db, calls: store.Calls(db, outbox.New(db, tel), jobs, tel), clock: clock.At(noon()), bucket: &bucket{}, provider: &provider{}, observer: &observer{}}
	f.processor = &call.Processor{
		Calls: f.calls, Leases: store.Leases(db), Recordings: f.bucket, Preparer: preparer{}, Transcriber: transcriber{f.provider}, Analyst: analyst{f.provider},
		Steps: store.Steps(db), Budget: call.Budget{Usages: store.Usages(db)}, Observer: f.observer, Parallel: 1, Jitter: func() float64 { return 0 },
		Clock: f.clock, Log: slog.New(slog.DiscardHandler), Holder: "this process", Waits: []time.Duration{time.Minute}, RenewEvery: time.Millisecond, SaveWait: time.Microsecond,
	}
	return f
}

// bucket has every recording, unless it fails.
type bucket struct {
	err     error
	removed []string
	keys    []string // that List returns
}

func (b *bucket) Store(context.Context, string, io.Reader) (call.Recording, error) {
	return call.Recording{}, errors.New("not in this test")
}

type empty struct{ *bytes.Reader }

func (empty) Close() error { return nil }

func (b *bucket) Open(context.Context, string) (io.ReadSeekCloser, error) {
	return empty{bytes.NewReader(nil)}, b.err
}

func (b *bucket) Remove(_ context.Context, key string) error {
	if b.err == nil {
		b.removed = append(b.removed, key)
	}
	return b.err
}

func (b *bucket) List(_ context.Context, _ string, _ time.Time, page func([]string) error) error {
	return page(b.keys)
}

// preparer returns two chunks for any file.
type preparer struct{}

func (preparer) Prepare(context.Context, io.Reader, string) (call.PreparedAudio, error) {
	return call.PreparedAudio{Duration: 20, Chunks: []call.Chunk{{Path: "a", End: 10}, {Path: "b", Start: 10, End: 20}}, Peaks: call.Peaks{Channels: 1, PerSecond: 1, Values: []int{1}}, Close: func() {}}, nil
}

// provider responds at once unless a test changes it, and counts requests.
type provider struct {
	transcribed, analysed   atomic.Int64
	onTranscribe, onAnalyse func(context.Context) error
	stopped                 error
	dirty                   string // appended to every text
	keys                    sync.Map
}

// transcriber and analyst are the two sides of a provider.
type (
	transcriber struct{ *provider }
	analyst     struct{ *provider }
)

func (transcriber) Model() string { return "m" }
func (analyst) Model() string     { return "c" }

func (p *provider) Ready() error { return p.stopped }

func (p transcriber) Send(ctx context.Context, chunk call.Chunk, _ *string, key string) (call.Answer, error) {
	p.transcribed.Add(1)
	p.keys.Store(key, chunk.Path)
	if p.onTranscribe != nil {
		if err := p.onTranscribe(ctx); err != nil {
			return call.Answer{}, err
		}
	}
	return call.Answer{Body: []byte(chunk.Path), Model: "m", Usage: call.Usage{Seconds: 10, CostUSD: new(0.5)}}, nil
}

func (p transcriber) Read(answer []byte) (call.Transcript, error) {
	path := string(answer)
	return call.Transcript{Text: "part " + path + p.dirty, Segments: []call.Segment{{Start: 1, End: 2, Text: path}}}, nil
}

func (p analyst) Send(ctx context.Context, _ call.Question, key string) (call.Answer, error) {
	p.analysed.Add(1)
	p.keys.Store(key, "")
	if p.onAnalyse != nil {
		if err := p.onAnalyse(ctx); err != nil {
			return call.Answer{}, err
		}
	}
	return call.Answer{Body: []byte("good"), Model: "c", Usage: call.Usage{InputTokens: 100, OutputTokens: 10, CostUSD: new(0.25)}}, nil
}

func (p analyst) Read(answer []byte, _ call.Question) (call.Insights, string, error) {
	return call.Insights{Summary: new(string(answer) + p.dirty)}, "c", nil
}

// observer counts repeated requests and dropped claims.
type observer struct {
	repeated, dropped atomic.Int64

	mu       sync.Mutex
	attempts []call.Attempt
}

func (o *observer) Repeated(string)         { o.repeated.Add(1) }
func (o *observer) Dropped(_ string, n int) { o.dropped.Add(int64(n)) }

func (o *observer) Attempted(_ context.Context, a call.Attempt) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attempts = append(o.attempts, a)
}

// create stores a new call and returns its id.
func (f *fixture) create(t *testing.T) string {
	t.Helper()
	c, events := fresh(f.clock.Now())
	require.NoError(t, f.calls.Create(t.Context(), c, events...))
	return c.ID
}

func (f *fixture) find(t *testing.T, id string) call.Call {
	t.Helper()
	c, err := f.calls.Find(t.Context(), id)
	require.NoError(t, err)
	return c
}

// transcribe runs the newest job of a call.
func (f *fixture) transcribe(t *testing.T, ctx context.Context, id string) error {
	t.Helper()
	return f.processor.Transcribe(ctx, id, f.find(t, id).Lease.Epoch)
}

// expire makes the lease of a call expire.
func (f *fixture) expire(t *testing.T, id string) {
	t.Helper()
	f.exec(t, `update calls set lease_until = now() - interval '1 second' where id = $1 and lease_holder is not null`, id)
}

func (f *fixture) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := f.db.Conn(t.Context()).Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// priorities returns the priorities of the jobs of a call with that epoch.
func (f *fixture) priorities(t *testing.T, id string, epoch int64) []int {
	t.Helper()
	return pgtest.Column[int](t, f.db, `select priority from river_job where args->>'id' = $1 and (args->>'epoch')::bigint = $2`, id, epoch)
}

const first = 1 // River's highest priority
