package analytics

import (
	"context"
	"time"
)

const (
	// FoldEvery is how often deltas are folded. A read passes all that were not.
	FoldEvery = time.Second
	// FoldLimit is how many deltas are folded in one transaction.
	FoldLimit = 20_000
	// RepairPeriod is how often the stored counts are compared with the leads and calls.
	RepairPeriod = 24 * time.Hour
	// foldsPerVacuum is how many periods of folds leave rows before they are removed.
	foldsPerVacuum = 10
)

// Rollups stores the sums of deltas.
type Rollups interface {
	// Fold adds the oldest deltas to the sums, at most FoldLimit, and returns how many.
	Fold(ctx context.Context) (int, error)
	// Vacuum removes what folded deltas leave in the database.
	Vacuum(ctx context.Context) error
	// Drift returns what the sums and deltas lack to be those of all leads and calls.
	Drift(ctx context.Context) (*Rollup, error)
	// Correct adds what Drift returned.
	Correct(ctx context.Context, difference *Rollup) error
	// ClaimRepair reports whether this replica shall compare now. ReleaseRepair gives a claim back.
	ClaimRepair(ctx context.Context, period time.Duration) (bool, error)
	ReleaseRepair(ctx context.Context) error
}

// Aggregator keeps the counts right and fast to read. Its methods are for one caller at a time.
type Aggregator struct {
	Rollups Rollups
	// Compared gets the number of counts that were wrong.
	Compared func(ctx context.Context, wrong int)

	folds, dirty int
}

// Fold adds all deltas to the sums. Call it once per FoldEvery. Those that are written meanwhile are for the next call: folding until
// there are none would fold without a pause while leads are written.
func (a *Aggregator) Fold(ctx context.Context) error {
	for {
		n, err := a.Rollups.Fold(ctx)
		if err != nil {
			return err
		}
		if a.dirty += n; n < FoldLimit {
			break
		}
	}
	if a.folds++; a.folds >= foldsPerVacuum && a.dirty > 0 {
		a.folds, a.dirty = 0, 0
		return a.Rollups.Vacuum(ctx)
	}
	return nil
}

// Repair compares the counts with the leads and calls once per RepairPeriod on all replicas together, and corrects what differs. Call
// it more often than that.
func (a *Aggregator) Repair(ctx context.Context) error {
	claimed, err := a.Rollups.ClaimRepair(ctx, RepairPeriod)
	if err != nil || !claimed {
		return err
	}
	if _, err = a.Recompute(ctx); err != nil {
		_ = a.Rollups.ReleaseRepair(context.WithoutCancel(ctx)) // otherwise it is compared after the next period
	}
	return err
}

// Recompute compares the counts with the leads and calls, and corrects what differs. It returns how many counts were wrong.
func (a *Aggregator) Recompute(ctx context.Context) (wrong int, err error) {
	difference, err := a.Rollups.Drift(ctx)
	if err != nil {
		return 0, err
	}
	wrong = difference.Compact()
	if a.Compared != nil {
		a.Compared(ctx, wrong)
	}
	if wrong == 0 {
		return 0, nil
	}
	return wrong, a.Rollups.Correct(ctx, difference)
}
