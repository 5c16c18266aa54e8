package leadimport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/services/crm/internal/erasure"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

const (
	batchSize = 500
	// leaseTTL is how long one batch may take. Each renews the lease.
	leaseTTL = 60 * time.Second
	// maxFailures ends an import that fails again and again.
	maxFailures = 5
	retryWait   = 5 * time.Second
	reclaimSize = 100
	saveTimeout = 3 * time.Second // of the last write of a worker that must stop
	stagingAge  = 6 * time.Hour
	retention   = 90 * 24 * time.Hour
)

// Balancer chooses the agent of a new lead. done is called with whether the agent got it.
type Balancer interface {
	Next(ctx context.Context) (agentID *string, done func(used bool), err error)
}

// Team knows who works. Check fails with a NotFound or Conflict fault for somebody who does not.
type Team interface {
	Check(ctx context.Context, agentID string) error
}

// Processor does the work of imports. Any number of them may run concurrently, in this process and in others: an import is the work of
// one at a time, whose lease each batch checks and renews. After a crash another continues with the first row that has no result.
type Processor struct {
	Imports  Store
	Batches  Batches
	Leads    lead.Store
	Rules    lead.Rules
	Team     Team
	Erasures erasure.Store
	Balancer Balancer
	Clock    clock.Clock
	Log      *slog.Logger
	Holder   string // of the leases: the name of this process
}

// Process runs the job of an import with that epoch. It returns nil for a superseded job. An error means that the result of the work
// could not be stored.
func (p *Processor) Process(ctx context.Context, id string, epoch int64) error {
	err := p.work(ctx, id, epoch)
	if lease.IsSuperseded(err) {
		return nil
	}
	return err
}

// work takes the lease and processes an import to its end.
func (p *Processor) work(ctx context.Context, id string, epoch int64) error {
	taken, err := p.Imports.Change(ctx, id, func(i *Import) error {
		if !i.Working() {
			return lease.ErrSuperseded
		}
		return i.Begin(epoch, p.Holder, leaseTTL)
	})
	if err != nil {
		return err
	}
	epoch = taken.Epoch
	if err = p.batches(ctx, taken, epoch); err == nil {
		_, err = p.Imports.Change(ctx, id, func(i *Import) error { return i.finish(epoch, p.Clock.Now()) })
	}
	if err == nil || lease.IsSuperseded(err) {
		return err
	}
	saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	stopping := ctx.Err() != nil
	saved, failed := p.Imports.Change(saving, id, func(i *Import) error {
		if stopping {
			return i.HandBack(epoch)
		}
		again := i.Failures+1 < maxFailures
		if !again {
			i.State, i.FinishedAt = Failed, new(p.Clock.Now())
		}
		return i.Fail(epoch, retryWait, again)
	})
	if failed != nil { // the lease expires, and another worker takes over
		return errors.Join(err, failed)
	}
	if !stopping {
		p.Log.WarnContext(ctx, "an import is interrupted", "import_id", id, "error", err, "failures", saved.Failures, "state", string(saved.State))
	}
	return nil
}

// batches processes all batches. When a batch has data that the database refuses, its rows are tried one by one.
func (p *Processor) batches(ctx context.Context, i Import, epoch int64) error {
	limit := batchSize
	for {
		more, err := p.next(ctx, i, epoch, limit, p.apply)
		if fault.Is(err, fault.Defect) && i.State == Running {
			if limit == 1 {
				more, err = p.next(ctx, i, epoch, limit, skip)
			} else {
				limit = 1
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("process a batch of import %s: %w", i.ID, err)
		}
		if !more {
			return nil
		}
	}
}

func (p *Processor) next(ctx context.Context, i Import, epoch int64, limit int, apply func(context.Context, *Import, []Staged) ([]Touched, error)) (bool, error) {
	if i.State == Reverting {
		return p.Batches.Leads(ctx, i.ID, epoch, leaseTTL, limit, p.revert)
	}
	return p.Batches.Rows(ctx, i.ID, epoch, leaseTTL, limit, apply)
}

// skip is apply for a row that cannot be stored.
func skip(_ context.Context, of *Import, rows []Staged) ([]Touched, error) {
	for i := range rows {
		rows[i].done(Skipped, "it has something that cannot be stored", nil)
		of.count(Skipped)
	}
	return nil, nil
}

// revert undoes the changes of leads that nobody has changed since.
func (p *Processor) revert(ctx context.Context, of *Import, touched []Touched) ([]bool, error) {
	undo, before, at := make([]bool, len(touched)), make([]lead.Snapshot, len(touched)), map[string]int{}
	ids, phones := make([]string, len(touched)), []string(nil)
	for i, t := range touched {
		ids[i], at[t.LeadID] = t.LeadID, i
		if t.Before == nil {
			continue
		}
		if err := json.Unmarshal(t.Before, &before[i]); err != nil {
			return nil, fmt.Errorf("read the state of a lead before an import: %w", err)
		}
		if before[i].Phone != nil {
			phones = append(phones, *before[i].Phone)
		}
	}
	owners, err := p.Leads.FindByPhones(ctx, phones)
	if err != nil {
		return nil, err
	}
	now := p.Clock.Now()
	var erased []erasure.Erasure
	_, err = p.Leads.ChangeAll(ctx, ids, func(l *lead.Lead) (lead.Outcome, []event.Event, error) {
		i := at[l.ID]
		if l.Version != touched[i].Version {
			return lead.Unchanged, nil, nil
		}
		if touched[i].Before == nil {
			undo[i] = true
			events, x := l.Remove(of.AgentID, now)
			erased = append(erased, x)
			return lead.Removed, events, nil
		}
		if phone := before[i].Phone; phone != nil && owners[*phone].LeadID != "" && owners[*phone].LeadID != l.ID {
			return lead.Unchanged, nil, nil // another lead has the number now
		}
		undo[i] = true
		return lead.Saved, []event.Event{l.Restore(before[i], now)}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("revert the leads of an import: %w", err)
	}
	if err := erasure.Request(ctx, p.Erasures, erased...); err != nil {
		return nil, err
	}
	for _, did := range undo {
		if did {
			of.Reverted++
		} else {
			of.Retained++
		}
	}
	return undo, nil
}

// Reclaim takes over the imports whose process died: with the lease, or with a job that it fetched and never began.
func (p *Processor) Reclaim(ctx context.Context) error {
	lost, err := p.Batches.ListLost(ctx, reclaimSize)
	if err != nil {
		return err
	}
	return lease.ReclaimEach(lost, func(work lease.Ref) error {
		_, err := p.Imports.Change(ctx, work.ID, func(i *Import) error { return i.Reclaim(work.Epoch) })
		if err == nil {
			p.Log.WarnContext(ctx, "an import is taken over", "import_id", work.ID)
		}
		return err
	})
}

// Sweep removes imports whose file never arrived completely, and the reports of old ones.
func (p *Processor) Sweep(ctx context.Context) error {
	return p.Batches.RemoveStaged(ctx, stagingAge, retention)
}
