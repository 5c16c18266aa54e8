package delivery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/lease"
)

func TestAnOpenDeliveryAlwaysHasAJobOrAWorker(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := create("endpoint", event.Event{ID: "e", Type: "transcription.completed"}, nil, About{}, noon)
		job := d.Epoch // of the newest job
		log, ended := 0, 0
		record := func(a Answer) error {
			published, err := d.record(epochOf(t, d), Attempt{Answer: a}, 0.5, noon)
			ended += len(published)
			return err
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			before := d
			d.Job = nil // as read from the store
			var err error
			switch step := rapid.SampledFrom([]string{"begin", "postpone", "hand back", "succeed", "fail", "gone", "hold", "resume", "expire", "requeue"}).Draw(t, "step"); step {
			case "begin":
				err = d.begin(epochOf(t, d), "worker", []byte("body"), noon)
			case "postpone":
				err = d.postpone(epochOf(t, d), time.Second, noon)
			case "hand back":
				err = d.handBack(epochOf(t, d), noon)
			case "succeed":
				err = record(Answer{StatusCode: ptr(200)})
			case "fail":
				err = record(Answer{Error: ptr("timeout")})
			case "gone":
				err = record(Answer{StatusCode: ptr(410)})
			case "hold":
				d.hold("gone", noon)
			case "resume":
				d.resume(noon)
			case "expire":
				if d.Left != nil {
					d.Left = ptr(-time.Second)
				}
				d.reclaim(noon)
			case "requeue":
				err = d.requeue(epochOf(t, d), noon)
			}
			if err != nil {
				require.ErrorIs(t, err, lease.ErrSuperseded)
				d = before // a refused change is not saved
				continue
			}
			if d.Job != nil {
				job = d.Epoch
			}
			require.Len(t, d.Log, d.Requests(), "each recorded attempt counts once")
			for i := log; i < len(d.Log); i++ {
				require.Equal(t, i+1, d.Log[i].Number)
			}
			log = len(d.Log)
			require.Equal(t, d.Status == Delivered || d.Status == Dead, ended == 1, "its end is published once")
			if !d.open() {
				require.Nil(t, d.Holder)
				require.Nil(t, d.NextAttemptIn)
				require.NotEqual(t, d.Epoch, job, "no job is current")
				continue
			}
			require.NotNil(t, d.NextAttemptIn)
			require.NotEqual(t, d.Holder != nil, d.Epoch == job, "it has a worker or a job, not both")
			require.Equal(t, d.Status == Retrying, log > 0)
		}
	})
}

// epochOf returns the delivery's epoch, or that of a superseded job or worker.
func epochOf(t *rapid.T, d Delivery) int64 {
	return d.Epoch - rapid.SampledFrom([]int64{0, 0, 0, 1}).Draw(t, "superseded")
}
