package call_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
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

const patience = 20 * time.Second

// room is a scribe on the real store, with everything else under the test's control.
type room struct {
	db     *pg.DB
	store  *store.Store
	clock  *clock.Manual
	scribe *call.Scribe

	listened, transcribed, analysed atomic.Int64
	onTranscribe, onAnalyse         func(context.Context) error
}

func newRoom(t *testing.T) *room {
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
	r := &room{db: db, store: store.New(db, outbox.New(db, tel), queue, tel), clock: clock.At(noon())}
	r.scribe = &call.Scribe{
		Store: r.store, Recordings: r, Listener: r, Transcriber: r, Analyst: r, Clock: r.clock, Log: slog.New(slog.DiscardHandler),
		Waits: []time.Duration{time.Minute}, RenewEvery: time.Millisecond,
	}
	return r
}

func (r *room) Store(context.Context, string, io.Reader) (call.Recording, error) {
	return call.Recording{}, errors.New("not in this test")
}

type nothing struct{ *bytes.Reader }

func (nothing) Close() error { return nil }

func (r *room) Open(context.Context, string) (io.ReadSeekCloser, error) {
	return nothing{bytes.NewReader(nil)}, nil
}
func (r *room) Remove(context.Context, string) error { return nil }
func (r *room) List(context.Context, string, time.Time, func([]string) error) error {
	return nil
}

func (r *room) Listen(context.Context, io.Reader, string) (call.Sound, error) {
	r.listened.Add(1)
	return call.Sound{Duration: 20, Parts: []call.SoundPart{{Path: "a"}, {Path: "b", Start: 10}}, Close: func() {}}, nil
}

func (r *room) Transcribe(ctx context.Context, path string, _ *string) (call.Transcript, string, error) {
	r.transcribed.Add(1)
	if r.onTranscribe != nil {
		if err := r.onTranscribe(ctx); err != nil {
			return call.Transcript{}, "", err
		}
	}
	return call.Transcript{Text: " part " + path + "\x00", Segments: []call.Segment{{Start: 1, End: 2, Text: path}}}, "m", nil
}

func (r *room) Analyse(ctx context.Context, _ call.Question) (call.Insights, string, error) {
	r.analysed.Add(1)
	if r.onAnalyse != nil {
		if err := r.onAnalyse(ctx); err != nil {
			return call.Insights{}, "", err
		}
	}
	return call.Insights{Summary: new("good")}, "c", nil
}

func (r *room) call(t *testing.T) string {
	t.Helper()
	c, events := fresh(r.clock.Now())
	require.NoError(t, r.store.Create(t.Context(), c, events))
	return c.ID
}

func (r *room) find(t *testing.T, id string) call.Call {
	t.Helper()
	c, err := r.store.Find(t.Context(), id)
	require.NoError(t, err)
	return c
}

// run does the newest job of a call.
func (r *room) run(t *testing.T, ctx context.Context, id string) error {
	t.Helper()
	return r.scribe.Transcribe(ctx, id, r.find(t, id).Lease.Epoch)
}

func (r *room) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, r.db.Conn(t.Context()).QueryRow(t.Context(), query, args...).Scan(&n))
	return n
}

func TestPartsAreJoinedWithTheirTimes(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	id := r.call(t)
	require.NoError(t, r.run(t, t.Context(), id))
	c := r.find(t, id)
	require.Equal(t, call.Completed, c.Status)
	require.Equal(t, "part a\npart b", c.Transcript.Text)
	require.Equal(t, []call.Segment{{Start: 1, End: 2, Text: "a"}, {Start: 11, End: 12, Text: "b"}}, c.Transcript.Segments)
	require.Equal(t, 3, r.count(t, `select count(*) from outbox where key = $1`, id))
}

func TestAJobDoneTwiceDoesNothingTheSecondTime(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	id := r.call(t)
	require.NoError(t, r.scribe.Transcribe(t.Context(), id, 1))
	require.NoError(t, r.scribe.Transcribe(t.Context(), id, 1))
	require.NoError(t, r.scribe.Transcribe(t.Context(), event.NewID(), 1), "a call that was removed")
	require.Equal(t, int64(1), r.analysed.Load())
}

// The worker dies without a word after the transcript was kept: its lease runs out, another worker takes over, and does not
// transcribe again.
func TestACrashAfterTheTranscriptPaysForItOnce(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.scribe.RenewEvery = time.Hour
	id := r.call(t)
	dying, die := context.WithCancel(t.Context())
	died := make(chan struct{})
	r.onAnalyse = func(ctx context.Context) error {
		close(died)
		<-ctx.Done()
		// A process that is killed says nothing any more.
		_, err := r.store.Change(context.WithoutCancel(ctx), id, func(c *call.Call) ([]event.Event, error) {
			require.NotNil(t, c.Transcript)
			return nil, nil
		})
		return errors.Join(err, call.ErrStale)
	}
	done := make(chan error, 1)
	go func() { done <- r.run(t, dying, id) }()
	<-died
	die()
	require.NoError(t, <-done)
	held := r.find(t, id)
	require.True(t, held.Lease.Held)

	require.NoError(t, r.scribe.Reclaim(t.Context()))
	require.Equal(t, held.Lease.Epoch, r.find(t, id).Lease.Epoch, "the lease is good until it is over")
	r.clock.Advance(call.LeaseTime)
	require.NoError(t, r.scribe.Reclaim(t.Context()))
	require.Equal(t, held.Lease.Epoch+1, r.find(t, id).Lease.Epoch)
	require.Equal(t, 1, r.count(t, `select count(*) from river_job where args->>'id' = $1 and (args->>'epoch')::bigint = $2`, id, held.Lease.Epoch+1))

	r.onAnalyse = nil
	require.NoError(t, r.run(t, t.Context(), id))
	require.Equal(t, call.Completed, r.find(t, id).Status)
	require.Equal(t, int64(2), r.transcribed.Load(), "two parts, each once")
}

// A worker that was stopped for a while (SIGSTOP) comes back after its lease was given to somebody else.
func TestALateResultIsRefused(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.scribe.RenewEvery = time.Hour
	id := r.call(t)
	stopped, goOn := make(chan struct{}), make(chan struct{})
	r.onAnalyse = func(context.Context) error {
		close(stopped)
		<-goOn
		return nil
	}
	late := make(chan error, 1)
	go func() { late <- r.run(t, t.Context(), id) }()
	<-stopped
	r.clock.Advance(call.LeaseTime)
	require.NoError(t, r.scribe.Reclaim(t.Context()))
	epoch := r.find(t, id).Lease.Epoch
	r.onAnalyse = nil
	require.NoError(t, r.scribe.Transcribe(t.Context(), id, epoch))
	version := r.find(t, id).Version
	close(goOn)
	require.NoError(t, <-late, "it is no error, and no second result")
	require.Equal(t, version, r.find(t, id).Version)
	require.Equal(t, 1, r.count(t, `select count(*) from outbox where key = $1 and type = 'transcription.completed'`, id))
}

func TestAWorkerRenewsItsLeaseAndStopsWhenItIsLost(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	id := r.call(t)
	working := make(chan struct{})
	r.onTranscribe = func(ctx context.Context) error {
		close(working)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- r.run(t, t.Context(), id) }()
	<-working
	until := *r.find(t, id).Lease.Until
	r.clock.Advance(call.LeaseTime / 2)
	require.Eventually(t, func() bool { return r.find(t, id).Lease.Until.After(until) }, patience, time.Millisecond)
	_, err := r.store.Change(t.Context(), id, func(c *call.Call) ([]event.Event, error) {
		return c.Reclaim(c.Lease.Until.Add(time.Second)), nil
	})
	require.NoError(t, err)
	require.NoError(t, <-done)
	c := r.find(t, id)
	require.False(t, c.Lease.Held)
	require.Zero(t, c.Lease.Failures)
}

func TestAWorkerThatHasToStopHandsBack(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	id := r.call(t)
	ctx, stop := context.WithCancel(t.Context())
	r.onTranscribe = func(ctx context.Context) error {
		stop()
		<-ctx.Done()
		return ctx.Err()
	}
	require.NoError(t, r.run(t, ctx, id))
	c := r.find(t, id)
	require.Equal(t, call.Transcribing, c.Status)
	require.False(t, c.Lease.Held)
	require.Zero(t, c.Lease.Failures, "stopping is no failure")
	require.Equal(t, 1, r.count(t, `select count(*) from river_job where args->>'id' = $1 and (args->>'epoch')::bigint = $2`, id, c.Lease.Epoch))
}

func TestAJobThatTakesTooLongIsAFailure(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.scribe.Waits = nil
	id := r.call(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	r.onTranscribe = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	require.NoError(t, r.run(t, ctx, id))
	c := r.find(t, id)
	require.Equal(t, call.Failed, c.Status)
	require.Equal(t, call.CodeTimeout, c.Problem.Code)
}

func TestAnInternalErrorShowsNothingInternal(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.scribe.Waits = nil
	r.onTranscribe = func(context.Context) error { return errors.New("secret of the machine room") }
	id := r.call(t)
	require.NoError(t, r.run(t, t.Context(), id))
	c := r.find(t, id)
	require.Equal(t, "internal_error", c.Problem.Code)
	require.NotContains(t, c.Problem.Message, "secret")
}

func TestAMissingRecordingEndsTheCall(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.scribe.Recordings = missing{r}
	id := r.call(t)
	require.NoError(t, r.run(t, t.Context(), id))
	require.Equal(t, &call.Problem{Code: call.CodeMissing, Message: "The recording is not in the storage any more"}, r.find(t, id).Problem)
}

type missing struct{ call.Recordings }

func (missing) Open(context.Context, string) (io.ReadSeekCloser, error) {
	return nil, fault.New(fault.NotFound, "audio_not_found", "gone")
}
