// Package lease decides which worker may work on a row. A lease is a plain value that a domain type embeds. It is stored in the
// row, and it expires by the database's clock: it contains no time of day, only the time left, which the store converts with
// the database's now() (libs/pg/table.Remaining). A worker holds a lease for a limited time and renews it (libs/job.Leases). A worker
// that does not renew in time loses the lease, and its later writes are refused because of their old epoch. This package refuses to
// do I/O; its caller stores the lease and inserts the jobs.
package lease

import (
	"errors"
	"time"
)

// ErrSuperseded means that a job or worker has an old epoch: the work was reclaimed, ended or removed meanwhile.
var ErrSuperseded = errors.New("the lease has been superseded")

// Lease is the state of the work on one row. The zero Lease has no work.
type Lease struct {
	// Epoch is the fencing token: every change of the holder or job increments it, and jobs and workers with an older one are
	// refused.
	Epoch int64
	// Holder is the worker that holds the lease. It is nil while the work is queued and when there is no work.
	Holder *string
	// Left is the time until the lease expires, by the database's clock; negative after it has expired. It is nil without a
	// holder.
	Left     *time.Duration
	Attempts int // how often a worker has begun since New or Restart
	Failures int // how many of the attempts failed
	// Job is the job that a change requests. The store inserts it in the transaction of the change and does not save it in the
	// row.
	Job *Job `json:"-"`
}

// Job requests a job with the lease's epoch.
type Job struct {
	In    time.Duration // delay, by the database's clock
	First bool          // run it before other jobs that are due
}

// New returns the lease of new work that is due immediately.
func New() Lease {
	var l Lease
	l.queue(Job{})
	return l
}

// Begin gives the lease to the holder for ttl, under a new epoch. epoch is that of the job. Begin fails with ErrSuperseded if the
// job is not current.
func (l *Lease) Begin(epoch int64, holder string, ttl time.Duration) error {
	if l.Epoch != epoch || l.Holder != nil {
		return ErrSuperseded
	}
	l.Epoch++
	l.Holder, l.Left = &holder, &ttl
	l.Attempts++
	return nil
}

// Check fails with ErrSuperseded unless the worker with this epoch holds the lease. An expired lease belongs to the worker
// until it is reclaimed.
func (l *Lease) Check(epoch int64) error {
	if l.Epoch != epoch || l.Holder == nil {
		return ErrSuperseded
	}
	return nil
}

// End ends the work of the worker with this epoch. It fails like Check.
func (l *Lease) End(epoch int64) error {
	if err := l.Check(epoch); err != nil {
		return err
	}
	l.Stop()
	return nil
}

// Fail records that the worker with this epoch failed. With again, the work is queued again, due after wait. It fails like
// Check.
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

// HandBack releases the lease of a worker that must stop. The work is queued before other work. It fails like Check.
func (l *Lease) HandBack(epoch int64) error {
	if err := l.End(epoch); err != nil {
		return err
	}
	l.queue(Job{First: true})
	return nil
}

// Defer releases the lease of a worker that cannot work yet: neither an attempt nor a failure is counted. The work is due after wait.
// It fails like Check.
func (l *Lease) Defer(epoch int64, wait time.Duration) error {
	if err := l.End(epoch); err != nil {
		return err
	}
	l.Attempts--
	l.queue(Job{In: wait})
	return nil
}

// Requeue queues the job with this epoch again, behind those that wait. It fails with ErrSuperseded if the job is not current.
func (l *Lease) Requeue(epoch int64) error {
	if l.Epoch != epoch || l.Holder != nil {
		return ErrSuperseded
	}
	l.queue(Job{})
	return nil
}

// Expired reports whether the lease has a holder and its time is over.
func (l *Lease) Expired() bool { return l.Left != nil && *l.Left <= 0 }

// Reclaim takes the work with this epoch from the process that died with it, and queues it before other work. It fails with
// ErrSuperseded if the work has another epoch or its lease has not expired. Work without a holder has no sign of life: only the
// store knows that its job was fetched from the queue and not begun (libs/job.Leases).
func (l *Lease) Reclaim(epoch int64) error {
	if l.Epoch != epoch || l.Holder != nil && !l.Expired() {
		return ErrSuperseded
	}
	l.queue(Job{First: true})
	return nil
}

// Restart queues the work again even if a worker holds the lease, and resets Attempts and Failures.
func (l *Lease) Restart() {
	l.Attempts, l.Failures = 0, 0
	l.queue(Job{})
}

// Stop ends all work. Earlier jobs and workers are superseded.
func (l *Lease) Stop() {
	l.Epoch++
	l.Holder, l.Left, l.Job = nil, nil, nil
}

func (l *Lease) queue(j Job) {
	l.Stop()
	l.Job = &j
}
