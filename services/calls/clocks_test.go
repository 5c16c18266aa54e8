package calls_test

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls"
)

// skewed is the clock of a machine that is wrong by a constant.
type skewed time.Duration

func (s skewed) Now() time.Time { return clock.System{}.Now().Add(time.Duration(s)) }

// One replica whose clock was 30 s behind once took over the calls of the other one: 36 transcriptions for 10 calls. Each
// transcription is held open here until every lease has been renewed twice, while both replicas look for expired leases.
func TestAReplicaWithAWrongClockTranscribesNoCallTwice(t *testing.T) {
	t.Parallel()
	const recordings = 6
	for _, off := range []time.Duration{-30 * time.Second, 10 * time.Minute} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			a := start(t, func(c *calls.Config) { c.Workers, c.Concurrency = recordings, recordings })
			a.Replica(func(ctx context.Context, tel telemetry.Set) (*service.App, error) {
				wrong := a.cfg
				wrong.Clock = skewed(off)
				return calls.New(ctx, wrong, tel)
			})
			finish := make(chan struct{})
			release := sync.OnceFunc(func() { close(finish) })
			t.Cleanup(release)
			a.ai.onTranscribe.Store(handler(func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-finish:
					reply(w, map[string]any{"text": transcript})
				case <-r.Context().Done():
				}
			}))
			var ids []string
			for range recordings {
				ids = append(ids, a.call(recording(t, 2)))
			}
			a.Await("all are being transcribed", func() bool { return a.ai.transcriptions.Load() >= recordings })
			leases := func() (until map[string]time.Time) {
				until = map[string]time.Time{}
				for _, row := range pgtest.Column[string](t, a.DB, `select id || ' ' || extract(epoch from lease_until)::bigint from calls where lease_until is not null`) {
					seconds, err := strconv.ParseInt(row[37:], 10, 64)
					require.NoError(t, err)
					until[row[:36]] = time.Unix(seconds, 0)
				}
				return until
			}
			for range 2 {
				before := leases()
				a.Await("all leases are renewed", func() bool {
					renewed := 0
					for id, until := range leases() {
						if until.After(before[id]) {
							renewed++
						}
					}
					return renewed == recordings
				})
			}
			release()
			for _, id := range ids {
				got := a.ended(id)
				require.Equal(t, "completed", got["status"], got["error"])
				require.InDelta(t, 1, got["attempts"], 0)
			}
			require.Equal(t, int64(recordings), a.ai.transcriptions.Load())
			require.Equal(t, int64(recordings), a.ai.chats.Load())
		})
	}
}
