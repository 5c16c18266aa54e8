// Package lease says who may work on a row. A lease is a plain value that a domain embeds; its row is the truth, and the
// database's clock decides when it ends. So it holds no time of day: only how long is left of it, which the store computes
// from and writes as now() of the database (libs/pg/table.Remaining). A worker has a lease for a while and renews it; one that
// is silent for longer has lost it, and whatever it still tries is refused by the epoch.
package lease

import (
	"errors"
	"time"
)

// ErrSuperseded says that a job or a worker's result is not the current one: the work was taken over, ended or removed.
var ErrSuperseded = errors.New("the lease belongs to somebody else")

// Lease is the state of the work on one row. The zero Lease has no work to do.
type Lease struct {
	// Epoch is the fence: everything that gives the work to somebody else raises it, and what carries an older one is refused.
	Epoch int64
	// Holder is the worker that has the lease; nil while the work waits in the queue and when there is none.
	Holder *string
	// Left is how long the holder may stay silent, by the database's clock; negative once it has lost the lease. It is nil
	// without a holder.
	Left     *time.Duration
	Attempts int // how often a worker began since New or Reset
	Failures int // how many of them failed
	// Job is the job that a change asks for. The store inserts it in the transaction of the change and does not save it.
	Job *Job `json:"-"`
}

// Job asks for a job with the lease's epoch.
type Job struct {
	In    time.Duration // from now, by the database's clock
	First bool          // before other jobs that are due
}

// New is the lease of new work, due at once.
func New() Lease {
	var l Lease
	l.queue(Job{})
	return l
}

// Begin gives the lease to the worker of the job with that epoch, under a new epoch. It fails with ErrSuperseded.
func (l *Lease) Begin(epoch int64, holder string, ttl time.Duration) error {
	if l.Epoch != epoch || l.Holder != nil {
		return ErrSuperseded
	}
	l.Epoch++
	l.Holder, l.Left = &holder, &ttl
	l.Attempts++
	return nil
}

// Check fails with ErrSuperseded unless the worker of that epoch has the lease. One that has expired and that nobody has taken
// over yet is still the worker's.
func (l *Lease) Check(epoch int64) error {
	if l.Epoch != epoch || l.Holder == nil {
		return ErrSuperseded
	}
	return nil
}

// Renew lets the worker of that epoch have the lease for ttl from now.
func (l *Lease) Renew(epoch int64, ttl time.Duration) error {
	if err := l.Check(epoch); err != nil {
		return err
	}
	l.Left = &ttl
	return nil
}

// End ends the work of that epoch.
func (l *Lease) End(epoch int64) error {
	if err := l.Check(epoch); err != nil {
		return err
	}
	l.Stop()
	return nil
}

// Fail ends the work of that epoch with a failure. With again it is due once more after wait.
func (l *Lease) Fail(epoch int64, wait time.Duration, again bool) error {
	if err := l.End(epoch); err != nil {
		return err
	}
	l.Failures++
	if again {
		l.queue(Job{In: wait})
	}
	return nil
}

// HandBack gives up the lease for a worker that has to stop. The work goes on before other work.
func (l *Lease) HandBack(epoch int64) error {
	if err := l.End(epoch); err != nil {
		return err
	}
	l.queue(Job{First: true})
	return nil
}

// Postpone moves the turn of the queued job of that epoch without having tried.
func (l *Lease) Postpone(epoch int64, wait time.Duration) error {
	if l.Epoch != epoch || l.Holder != nil {
		return ErrSuperseded
	}
	l.queue(Job{In: wait})
	return nil
}

// Expired reports whether the holder has lost the lease.
func (l *Lease) Expired() bool { return l.Left != nil && *l.Left <= 0 }

// Reclaim takes the lease from a holder that has lost it. The work goes on before other work. It reports whether it did.
func (l *Lease) Reclaim() bool {
	if !l.Expired() {
		return false
	}
	l.queue(Job{First: true})
	return true
}

// Requeue asks again for the job of that epoch, which a process took out of the queue and never began. It reports whether that
// job is still the current one.
func (l *Lease) Requeue(epoch int64) bool {
	if l.Epoch != epoch || l.Holder != nil {
		return false
	}
	l.queue(Job{First: true})
	return true
}

// Restart queues the work anew, whoever has it, and counts from the beginning.
func (l *Lease) Restart() {
	l.Attempts, l.Failures = 0, 0
	l.queue(Job{})
}

// Resume queues the work anew, due after wait, and keeps counting.
func (l *Lease) Resume(wait time.Duration) { l.queue(Job{In: wait}) }

// Stop leaves nothing to do. Jobs and workers of before are superseded.
func (l *Lease) Stop() {
	l.Epoch++
	l.Holder, l.Left, l.Job = nil, nil, nil
}

func (l *Lease) queue(j Job) {
	l.Stop()
	l.Job = &j
}
