package call

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Quota limits uploads. Zero is no limit. The upload that reaches a limit is accepted, and the next one is refused, so that no
// recording is lost on its way.
type Quota struct {
	StoredBytes   int64
	MinutesPerDay int // of audio that was uploaded since midnight, UTC
	PendingCalls  int // that are not completed or failed
}

// Consumed is what a Quota limits.
type Consumed struct {
	StoredBytes  int64
	SecondsToday float64 // as far as the durations are known
	PendingCalls int
}

// Consumption reads what agents have consumed.
type Consumption interface {
	// Find reads what was consumed by an agent, or of the whole team for "". Deleted calls count as minutes.
	Find(ctx context.Context, agentID string, since time.Time) (Consumed, error)
}

// retryPending is when to try again after too many pending calls, and retryStored after too many bytes: somebody has to delete calls.
const (
	retryPending = time.Minute
	retryStored  = time.Hour
)

// checkQuotas fails with quota_exceeded if the caller or the team has used up a quota.
func (s *Service) checkQuotas(ctx context.Context) error {
	caller, err := identity.From(ctx)
	if err != nil {
		return err
	}
	for _, scope := range []struct {
		name, agentID string
		quota         Quota
	}{{"agent", caller.AgentID, s.AgentQuota}, {"team", "", s.TeamQuota}} {
		if scope.quota == (Quota{}) {
			continue
		}
		now := s.Clock.Now()
		midnight := now.UTC().Truncate(24 * time.Hour)
		used, err := s.Consumption.Find(ctx, scope.agentID, midnight)
		if err != nil {
			return err
		}
		if err := scope.quota.check(scope.name, used, midnight.AddDate(0, 0, 1).Sub(now)); err != nil {
			return err
		}
	}
	return nil
}

// check fails if a limit was reached. untilMidnight is when the minutes of a day count anew.
func (q Quota) check(scope string, used Consumed, untilMidnight time.Duration) error {
	switch {
	case q.PendingCalls > 0 && used.PendingCalls >= q.PendingCalls:
		return exceeded(scope, "pending_calls", fmt.Sprintf("%d recordings are waiting to be transcribed: wait until some are done", used.PendingCalls), retryPending)
	case q.MinutesPerDay > 0 && used.SecondsToday >= float64(q.MinutesPerDay)*60:
		return exceeded(scope, "minutes_per_day", fmt.Sprintf("The %d minutes of audio for today are used up: upload it tomorrow", q.MinutesPerDay), untilMidnight)
	case q.StoredBytes > 0 && used.StoredBytes >= q.StoredBytes:
		return exceeded(scope, "stored_bytes", fmt.Sprintf("The recordings take %d MB, which is all there is: delete some", used.StoredBytes>>20), retryStored)
	default:
		return nil
	}
}

func exceeded(scope, limit, detail string, after time.Duration) error {
	return fault.New(fault.Limited, "quota_exceeded", detail).After(after).With("limit", scope+"_"+limit)
}
