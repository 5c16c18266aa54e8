package audio

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/services/calls/internal/call"
)

func prepare(t *testing.T, p *Preparer, filter string, args ...string) call.PreparedAudio {
	t.Helper()
	prepared, err := p.Prepare(t.Context(), bytes.NewReader(produce(t, filter, append(args, "-c:a", "pcm_s16le", "-f", "wav")...)), "audio/wav")
	require.NoError(t, err)
	t.Cleanup(prepared.Close)
	return prepared
}

// gated is a tone that sounds in the given spans.
func gated(duration, when string) string {
	return "sine=440:sample_rate=16000:duration=" + duration + ",volume='if(" + when + ",1,0)':eval=frame"
}

// Hours of silence once cost as much as hours of speech.
func TestSilenceIsNotSent(t *testing.T) {
	t.Parallel()
	p, _ := open(t, ofOpenAI())
	require.Empty(t, prepare(t, p, "anullsrc=r=8000:cl=mono:duration=600").Chunks, "ten minutes of silence")
	require.Len(t, prepare(t, p, "sine=440:duration=3,volume=0.01").Chunks, 1, "a quiet call is no silence")

	prepared := prepare(t, p, gated("100", "lt(t,5)+between(t,60,65)"))
	require.Len(t, prepared.Chunks, 2)
	first, second := prepared.Chunks[0], prepared.Chunks[1]
	require.InDelta(t, 0, first.Start, 0.01)
	require.InDelta(t, 5.5, first.End, 0.1)
	require.InDelta(t, 59.5, second.Start, 0.1)
	require.InDelta(t, 65.5, second.End, 0.1)
	require.Len(t, second.Sound, 1)
	require.InDelta(t, 60, second.Sound[0].Start, 0.1)
	require.InDelta(t, 65, second.Sound[0].End, 0.1)
	require.NotEqual(t, first.Path, second.Path)
}

func TestChunksKeepTheLimitInSeconds(t *testing.T) {
	t.Parallel()
	p, _ := open(t, FileLimits{Bytes: 24 << 20, Seconds: 8})
	prepared := prepare(t, p, gated("23", "lt(mod(t,6),5)"))
	require.Greater(t, len(prepared.Chunks), 2)
	end := 0.0
	for _, c := range prepared.Chunks {
		require.LessOrEqual(t, c.End-c.Start, 8.0)
		require.InDelta(t, end, c.Start, 0.001, "nothing is left out")
		end = c.End
	}
	require.InDelta(t, prepared.Duration, end, 0.001)
}

func TestSpeakersOfAStereoCallAreKeptApart(t *testing.T) {
	t.Parallel()
	p, _ := open(t, ofOpenAI())
	conversation := "aevalsrc='if(lt(mod(t,8),4),0.3*sin(2764*t),0)|if(lt(mod(t,8),4),0,0.3*sin(4000*t))':s=16000:d=16"
	prepared := prepare(t, p, conversation)
	require.Len(t, prepared.Chunks, 2)
	agent, client := prepared.Chunks[0], prepared.Chunks[1]
	require.Equal(t, call.RoleAgent, *agent.Speaker)
	require.Equal(t, call.RoleClient, *client.Speaker)
	require.InDelta(t, 8, sum(agent.Sound), 0.3)
	require.InDelta(t, 8, sum(client.Sound), 0.3)
	require.InDelta(t, 4, client.Sound[0].Start, 0.1)
	require.Equal(t, 2, prepared.Peaks.Channels)

	for name, same := range map[string]string{
		"the same on both channels": "aevalsrc='0.3*sin(2764*t)|0.3*sin(2764*t)':s=16000:d=5",
		"one channel is silent":     "aevalsrc='0.3*sin(2764*t)|0':s=16000:d=5",
		"five more channels":        "aevalsrc='0.3*sin(2764*t)|0|0|0|0|0':s=16000:d=5:c=5.1",
	} {
		chunks := prepare(t, p, same).Chunks
		require.Len(t, chunks, 1, name)
		require.Nil(t, chunks[0].Speaker, name)
	}
}

func sum(intervals []call.Interval) (seconds float64) {
	for _, i := range intervals {
		seconds += i.End - i.Start
	}
	return seconds
}

func TestTheWaveformIsSmall(t *testing.T) {
	t.Parallel()
	p, _ := open(t, ofOpenAI())
	w := prepare(t, p, gated("10", "lt(t,5)")).Peaks
	require.InDelta(t, 10, w.PerSecond, 0)
	require.Len(t, w.Values, 100)
	require.Greater(t, w.Values[10], 5)
	require.Zero(t, w.Values[90])
}
