package delivery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/lease"
)

// After any sequence of steps, of current and of superseded workers, a delivery has ended or will be attempted, and its end is
// published once.
func TestADeliveryHasEndedOrWillBeAttempted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := create("endpoint", event.Event{ID: "e", Type: "transcription.completed"}, nil, About{}, noon)
		log, ended := 0, 0
		save := func(published []event.Event, err error) error {
			ended += len(published)
			return err
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			before := d
			epoch := epochOf(t, d)
			d.Log = nil // as read from the store
			var err error
			switch step := rapid.SampledFrom([]string{"begin", "postpone", "hand back", "succeed", "fail", "gone", "reject", "discard", "disable", "enable", "expire"}).Draw(t, "step"); step {
			case "begin": // the store claims only what waits
				if d.open() && d.Holder == nil {
					err = d.begin("worker", noon)
				}
			case "postpone":
				err = d.postpone(epoch, time.Second, noon)
			case "hand back":
				err = d.handBack(epoch, rapid.Bool().Draw(t, "begun"), noon)
			case "succeed":
				err = save(d.record(epoch, Attempt{Answer: Answer{StatusCode: new(200)}}, 0.5, noon))
			case "fail":
				err = save(d.record(epoch, Attempt{Answer: Answer{Error: new("timeout")}}, 0.5, noon))
			case "gone":
				err = save(d.record(epoch, Attempt{Answer: Answer{StatusCode: new(410)}}, 0.5, noon))
			case "reject":
				if log == 0 {
					err = save(d.reject(epoch, noon))
				}
			case "discard": // the store selects only what waits
				if d.open() && d.Holder == nil {
					err = save(d.discard("canceled", noon), nil)
				}
			case "disable":
				d.Disabled = new("paused")
			case "enable":
				d.Disabled = nil
			case "expire":
				if d.Left != nil {
					d.Left = new(-time.Second)
				}
			}
			if err != nil {
				require.ErrorIs(t, err, lease.ErrSuperseded)
				d = before // a refused change is not saved
				continue
			}
			for _, a := range d.Log {
				log++
				require.Equal(t, log, a.Number)
			}
			require.Equal(t, log, d.Requests(), "each recorded attempt counts once")
			require.LessOrEqual(t, log, len(schedule))
			require.Equal(t, d.Status == Delivered || d.Status == Dead, ended == 1, "its end is published once")
			shown, reason := d.Shown()
			if !d.open() {
				require.Nil(t, d.Holder)
				require.Nil(t, d.NextAttemptIn)
				require.Equal(t, d.Status, shown)
				require.Equal(t, d.Status == Dead, reason != nil)
				continue
			}
			require.NotNil(t, d.NextAttemptIn, "it will be attempted")
			require.Equal(t, d.Holder != nil, d.Left != nil)
			require.Equal(t, d.Status == Retrying, log > 0)
			require.Equal(t, d.Disabled != nil, shown == Held)
			require.Equal(t, shown == Pending, reason == nil)
		}
	})
}

// epochOf returns the delivery's epoch, or that of a superseded worker.
func epochOf(t *rapid.T, d Delivery) int64 {
	return d.Epoch - rapid.SampledFrom([]int64{0, 0, 0, 1}).Draw(t, "superseded")
}
