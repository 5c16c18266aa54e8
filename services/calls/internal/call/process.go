package call

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
)

// minDuration is the shortest duration that is transcribed, in seconds. Providers refuse less than a tenth of it.
const minDuration = 1.0

const (
	leaseTTL = 15 * time.Second
	// RenewEvery is how often a worker renews its lease.
	RenewEvery = 5 * time.Second
	// reclaimSize is the maximum number of calls with a lease, and of those with a job, that one Reclaim takes over.
	reclaimSize = 100
)

const (
	// SaveWait is the usual value of Processor.SaveWait.
	SaveWait    = 500 * time.Millisecond
	saveTimeout = 3 * time.Second // of a save, also while the process stops
	saveTries   = 22              // with the waits between them 40 s, or 100 s when each takes saveTimeout; both are longer than a lease
	maxSaveWait = 4               // times SaveWait
	// saveGrace is how long after an outage of the database Reclaim leaves expired leases to their workers. Meanwhile each of them
	// makes a try to save its result: saveTimeout and the longest wait are 5 s.
	saveGrace = 7 * time.Second
)

// Processor turns recordings into transcripts and insights. Each Transcribe processes one call; any number of them may run
// concurrently, in this process and in others.
type Processor struct {
	Calls       Store
	Leases      Leases
	Recordings  Recordings
	Preparer    Preparer
	Transcriber Transcriber
	Analyst     Analyst
	Steps       Steps
	Budget      Budget
	Observer    Observer
	Clock       clock.Clock
	Log         *slog.Logger
	Holder      string          // of the leases: the name of this process
	Parallel    int             // requests for parts of one recording at the same time
	Jitter      func() float64  // 0 to 1
	Waits       []time.Duration // after the first failure, the second, …; the failure after the last is final
	RenewEvery  time.Duration
	SaveWait    time.Duration // before the second try of a save; it doubles with each further one

	outage outage
}

// Transcribe runs the job of a call with that epoch. It returns nil for a superseded job: another worker processes the call, or
// it needs no processing. An error means that the call could not be saved.
func (p *Processor) Transcribe(ctx context.Context, id string, epoch int64) error {
	next, err := p.schedule(ctx, lease.Ref{ID: id, Epoch: epoch})
	if err != nil {
		return fmt.Errorf("schedule call %s: %w", id, err)
	}
	return p.begin(ctx, next.ID, next.Epoch)
}

// schedule returns the call to begin. Agents are served in round-robin order: if it is another agent's turn, the queued call is
// queued again.
func (p *Processor) schedule(ctx context.Context, queued lease.Ref) (lease.Ref, error) {
	next, ok, err := p.Leases.FindNext(ctx, queued)
	if err != nil || !ok {
		return queued, err
	}
	_, err = p.Calls.Change(ctx, queued.ID, func(c *Call) ([]event.Event, error) { return nil, c.Requeue(queued.Epoch) })
	if superseded(err) {
		return queued, nil
	}
	return next, err
}

func (p *Processor) begin(ctx context.Context, id string, epoch int64) error {
	began := clock.Stopwatch()
	c, err := p.Calls.Change(ctx, id, func(c *Call) ([]event.Event, error) {
		return c.Begin(epoch, p.Holder, leaseTTL, p.Clock.Now())
	})
	if superseded(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("begin with call %s: %w", id, err)
	}
	work, stop := lease.Heartbeat(ctx, began, leaseTTL, p.RenewEvery, func(ctx context.Context) error {
		return p.Leases.Renew(ctx, c.ID, c.Lease.Epoch, leaseTTL)
	})
	defer stop() // also after a panic, so that the lease expires
	done, err := p.process(work, c, func(save func(context.Context) error) error { return p.persist(ctx, c.ID, save) })
	lost := stop()
	switch {
	case err == nil:
		p.Observer.Attempted(ctx, Attempt{Call: done, Took: began()})
		return nil
	case superseded(err), lost:
		p.Log.InfoContext(ctx, "the work on a call was superseded", "call_id", id, "error", err)
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return p.handBack(ctx, c)
	default:
		return p.fail(ctx, c, err, began)
	}
}

// process transcribes the recording, finds insights in the transcript, and returns the completed call. Every answer of a provider is stored before it is read,
// and the whole transcript before insights are requested. ctx ends with the lease; save does not.
func (p *Processor) process(ctx context.Context, c Call, save saver) (done Call, err error) {
	result := Result{Outcome: OutcomeOK}
	if err := p.ready(c); err != nil {
		return done, err
	}
	if !c.transcribed() {
		if err := p.Budget.check(ctx, p.Clock.Now()); err != nil {
			return done, err
		}
		t, err := p.transcribe(ctx, c, save)
		if err != nil {
			return done, err
		}
		if t.short {
			result.Outcome = OutcomeTooShort
		} else if err := save(p.changing(c, func(saved *Call) ([]event.Event, error) {
			return nil, saved.SetTranscript(c.Lease.Epoch, t.Transcript, t.coverage, p.Transcriber.Model(), p.Clock.Now())
		})); err != nil {
			return done, fmt.Errorf("save the transcript: %w", err)
		}
		c.Transcript, c.Outdated, c.Coverage = &t.Transcript, false, &t.coverage
	}
	switch {
	case result.Outcome == OutcomeTooShort:
	case c.Transcript.Text == "":
		result.Outcome = OutcomeNoSpeech
	default:
		in, model, err := p.findInsights(ctx, c, save)
		if err != nil {
			return done, fmt.Errorf("find insights: %w", err)
		}
		if c.Coverage != nil && *c.Coverage < minCoverage {
			result.Outcome = OutcomePartial
		}
		result.Insights, result.Model = in, &model
	}
	err = save(p.changing(c, func(saved *Call) (events []event.Event, err error) {
		if saved.Transcript != nil {
			result.Talk = talkOf(saved.Transcript.Segments, saved.Speakers, saved.DurationSeconds)
		}
		events, err = saved.Complete(c.Lease.Epoch, result, p.Clock.Now())
		done = *saved
		return events, err
	}))
	if err != nil {
		return done, fmt.Errorf("save the result: %w", err)
	}
	return done, nil
}

// ready fails while the next provider takes no requests: a recording is not decoded in vain.
func (p *Processor) ready(c Call) error {
	if !c.transcribed() {
		return p.Transcriber.Ready()
	}
	return p.Analyst.Ready()
}

// saver saves what was paid for, also when the lease runs out meanwhile.
type saver func(save func(context.Context) error) error

// changing returns the save of a change.
func (p *Processor) changing(c Call, fn func(*Call) ([]event.Event, error)) func(context.Context) error {
	return func(ctx context.Context) error { return p.change(ctx, c, fn) }
}

// persist saves what was paid for. It tries again while the database is unavailable, also after the lease has run out: nobody can
// take the call over meanwhile, and if somebody has, the epoch refuses the result. ctx is that of the process: after it has ended,
// there is one more try. A result that the database refuses for another reason would be refused each time: the call must fail.
func (p *Processor) persist(ctx context.Context, callID string, save func(context.Context) error) error {
	for try, wait := 1, p.SaveWait; ; try, wait = try+1, min(2*wait, maxSaveWait*p.SaveWait) {
		saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
		err := save(saving)
		cancel()
		switch {
		case err == nil, superseded(err):
			if err == nil && try > 1 {
				p.Log.InfoContext(ctx, "a result was saved after further tries", "call_id", callID, "tries", try)
			}
			return err
		case !transient(err):
			return unstorable(err)
		case try == saveTries, ctx.Err() != nil:
			return err
		case try == 1:
			p.Log.WarnContext(ctx, "a result cannot be saved now, trying again", "call_id", callID, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// transient reports whether a save failed because the database is unavailable or slow.
func transient(err error) bool {
	return fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Timeout) || errors.Is(err, context.DeadlineExceeded)
}

// unstorable is the fault of a result that the database refuses. Its kind says that it is permanent.
func unstorable(cause error) error {
	return fault.Wrap(cause, fault.Conflict, CodeInternal, "The result of this call cannot be stored")
}

// fail records a failure. Its cause is only observed. If the database refuses the text of the failure, the call fails without it.
func (p *Processor) fail(ctx context.Context, c Call, cause error, took func() time.Duration) error {
	ctx = context.WithoutCancel(ctx)
	saved, err := p.recordFailure(ctx, c, cause)
	if err != nil && !superseded(err) && !transient(err) {
		cause = unstorable(errors.Join(err, cause))
		saved, err = p.recordFailure(ctx, c, cause)
	}
	if superseded(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("record the failure of call %s: %w", c.ID, errors.Join(err, cause))
	}
	p.Observer.Attempted(ctx, Attempt{Call: saved, Took: took(), Err: cause})
	return nil
}

func (p *Processor) recordFailure(ctx context.Context, c Call, cause error) (Call, error) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	return p.Calls.Change(ctx, c.ID, func(saved *Call) ([]event.Event, error) {
		return saved.Fail(c.Lease.Epoch, cause, p.Waits, p.Jitter(), p.Clock.Now())
	})
}

// handBack lets another worker, or this one after its restart, continue at once.
func (p *Processor) handBack(ctx context.Context, c Call) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	err := p.change(ctx, c, func(saved *Call) ([]event.Event, error) {
		return nil, saved.HandBack(c.Lease.Epoch, p.Clock.Now())
	})
	if err != nil && !superseded(err) {
		return fmt.Errorf("hand back call %s: %w", c.ID, err)
	}
	return nil
}

func (p *Processor) change(ctx context.Context, c Call, fn func(*Call) ([]event.Event, error)) error {
	_, err := p.Calls.Change(ctx, c.ID, fn)
	return err
}

// superseded reports whether another worker processes the call now, or it was deleted.
func superseded(err error) bool {
	return errors.Is(err, lease.ErrSuperseded) || fault.Is(err, fault.NotFound) && fault.Of(err).Code == codeNotFound
}

// outage notices that the database was unavailable for so long that workers with results have lost their leases.
type outage struct {
	sinceCheck, sinceEnd func() time.Duration // the last answer of the database; the first one after the outage
}

// recent reports whether an outage has just ended. It is called after each answer.
func (o *outage) recent() bool {
	if o.sinceCheck != nil && o.sinceCheck() >= leaseTTL-RenewEvery {
		o.sinceEnd = clock.Stopwatch()
	}
	o.sinceCheck = clock.Stopwatch()
	return o.sinceEnd != nil && o.sinceEnd() < saveGrace
}

// Reclaim takes over the calls whose process died: with the lease, or with a job that it fetched and never began. A call that cannot be
// saved does not delay the others. After an outage of the database, the workers may save their results first. Reclaim must not run
// concurrently with itself on one Processor.
func (p *Processor) Reclaim(ctx context.Context) error {
	lost, err := p.Leases.ListLost(ctx, reclaimSize)
	if err != nil || p.outage.recent() {
		return err
	}
	return lease.ReclaimEach(lost, func(work lease.Ref) error {
		var begun bool
		saved, err := p.Calls.Change(ctx, work.ID, func(c *Call) ([]event.Event, error) {
			begun = c.Lease.Holder != nil
			return c.Reclaim(work.Epoch, p.Clock.Now())
		})
		if err != nil {
			return err
		}
		p.Log.WarnContext(ctx, "a call is taken over", "call_id", work.ID, "begun", begun, "attempts", saved.Lease.Attempts, "again", saved.Lease.Job != nil)
		if saved.Status == Failed { // too many attempts
			p.Observer.Attempted(ctx, Attempt{Call: saved, Err: interrupted()})
		}
		return nil
	})
}
