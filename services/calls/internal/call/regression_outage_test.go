package call_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// outageDB is a database with one call, in virtual time. While it is unavailable, everything fails with Unavailable.
type outageDB struct {
	call.Store
	call.Leases
	mu      sync.Mutex
	call    call.Call
	until   time.Time // when the lease expires
	away    atomic.Bool
	failed  atomic.Int64      // saves
	answers map[string][]byte // of providers
}

// now returns the call as it is.
func (d *outageDB) now() call.Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.call
}

// answer updates the time that the lease has left. d is locked.
func (d *outageDB) answer() error {
	if d.away.Load() {
		return fault.New(fault.Unavailable, "database_unavailable", "away")
	}
	if d.call.Lease.Holder != nil {
		d.call.Lease.Left = new(time.Until(d.until))
	}
	return nil
}

func (d *outageDB) Change(_ context.Context, _ string, fn func(*call.Call) ([]event.Event, error)) (call.Call, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.answer(); err != nil {
		d.failed.Add(1)
		return call.Call{}, err
	}
	changed := d.call
	if _, err := fn(&changed); err != nil {
		return call.Call{}, err
	}
	if changed.Lease.Epoch != d.call.Lease.Epoch && changed.Lease.Left != nil {
		d.until = time.Now().Add(*changed.Lease.Left)
	}
	d.call = changed
	return changed, nil
}

func (d *outageDB) Renew(_ context.Context, _ string, _ int64, ttl time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.answer()
	if err == nil {
		d.until = time.Now().Add(ttl)
	}
	return err
}

func (d *outageDB) ListLost(context.Context, int) ([]lease.Ref, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.answer(); err != nil || !d.call.Lease.Expired() {
		return nil, err
	}
	return []lease.Ref{{ID: d.call.ID, Epoch: d.call.Lease.Epoch}}, nil
}

func (d *outageDB) FindNext(_ context.Context, queued lease.Ref) (lease.Ref, bool, error) {
	return queued, false, nil
}

func (d *outageDB) Begin(ctx context.Context, s call.Step) ([]byte, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.answers[s.Input], false, errors.Join(ctx.Err(), d.answer())
}

func (d *outageDB) End(_ context.Context, s call.Step, a call.Answer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.answer(); err != nil {
		d.failed.Add(1)
		return err
	}
	d.answers[s.Input] = a.Body
	return nil
}

func (d *outageDB) Drop(context.Context, call.Step, call.StepState) error { return nil }
func (d *outageDB) StorePeaks(context.Context, string, call.Peaks) error  { return nil }
func (d *outageDB) Forget(context.Context, time.Time) error               { return nil }

func outageProcessor(d *outageDB, p *provider) *call.Processor {
	c, _ := fresh(noon())
	d.call, d.answers = c, map[string][]byte{}
	return &call.Processor{
		Calls: d, Leases: d, Recordings: &bucket{}, Preparer: preparer{}, Transcriber: transcriber{p}, Analyst: analyst{p},
		Steps: d, Observer: &observer{}, Parallel: 1, Jitter: func() float64 { return 0 },
		Clock: clock.At(noon()), Log: slog.New(slog.DiscardHandler), Holder: "this process", Waits: []time.Duration{time.Minute}, RenewEvery: call.RenewEvery, SaveWait: call.SaveWait,
	}
}

// The result was thrown away, and the work paid for again, when the database was unavailable for longer than the lease.
func TestAResultSurvivesAnOutageThatIsLongerThanTheLease(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*provider, func(context.Context) error){
		"the transcript": func(p *provider, away func(context.Context) error) { p.onTranscribe = away },
		"the insights":   func(p *provider, away func(context.Context) error) { p.onAnalyse = away },
	} {
		synctest.Test(t, func(t *testing.T) {
			d, p := &outageDB{}, &provider{}
			processor := outageProcessor(d, p)
			begin(p, func(context.Context) error { d.away.Store(true); return nil })
			time.AfterFunc(2*ttl, func() { d.away.Store(false) })
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			// Another process takes over what has expired.
			other := outageProcessor(&outageDB{}, p)
			other.Calls, other.Leases = d, d
			require.NoError(t, other.Reclaim(ctx))
			go func() {
				ticker := time.NewTicker(time.Second)
				defer ticker.Stop()
				for {
					select {
					case <-ctx.Done():
						return
					case <-ticker.C:
						_ = other.Reclaim(ctx)
					}
				}
			}()
			require.NoError(t, processor.Transcribe(t.Context(), d.now().ID, d.now().Lease.Epoch))
			require.NotEmpty(t, d.answers, name)
			p.onTranscribe, p.onAnalyse = nil, nil
			time.Sleep(ttl) // virtual time, for the takeover
			require.NoError(t, processor.Transcribe(t.Context(), d.now().ID, d.now().Lease.Epoch))
			require.Equal(t, call.Completed, d.now().Status, name)
			require.Equal(t, int64(2), p.transcribed.Load(), "%s: the two chunks, once", name)
			require.Equal(t, int64(1), p.analysed.Load(), "%s: once", name)
		})
	}
}

// A process that must stop has 9 s, and cannot wait for the end of an outage.
func TestAResultInAnOutageDoesNotDelayTheStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, p := &outageDB{}, &provider{}
		processor := outageProcessor(d, p)
		p.onAnalyse = func(context.Context) error { d.away.Store(true); return nil }
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			_ = processor.Transcribe(ctx, d.now().ID, d.now().Lease.Epoch)
		}()
		time.Sleep(2*ttl + time.Millisecond)
		synctest.Wait()
		tries := d.failed.Load()
		stop()
		synctest.Wait()
		<-stopped
		require.Greater(t, tries, int64(10), "it tries also after the lease has run out")
		require.LessOrEqual(t, d.failed.Load(), tries+2, "one more try")
	})
}

// A dead worker's call is taken over soon after an outage all the same.
func TestReclaimGoesOnAfterAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &outageDB{}
		processor := outageProcessor(d, &provider{})
		require.NoError(t, processor.Reclaim(t.Context()))
		_, err := d.Change(t.Context(), d.now().ID, func(c *call.Call) ([]event.Event, error) { return c.Begin(c.Lease.Epoch, "dead", ttl, noon()) })
		require.NoError(t, err)
		d.away.Store(true)
		time.Sleep(2 * ttl)
		require.Error(t, processor.Reclaim(t.Context()))
		d.away.Store(false)
		require.NoError(t, processor.Reclaim(t.Context()))
		require.NotNil(t, d.now().Lease.Holder, "its worker may have a result")
		time.Sleep(5 * time.Second)
		require.NoError(t, processor.Reclaim(t.Context()))
		require.NotNil(t, d.now().Lease.Holder)
		time.Sleep(5 * time.Second)
		require.NoError(t, processor.Reclaim(t.Context()))
		require.Nil(t, d.now().Lease.Holder)
	})
}
