package audio

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// A player loads the waveform with the call: 16 kB, however long the recording is.
func TestTheWaveformOfALongRecordingFits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		hours    float64
		channels int
		want     float64 // peaks per second
	}{{0.05, 1, 10}, {0.3, 1, 2}, {1, 1, 1}, {1.5, 1, 0.5}, {1, 2, 0.5}, {8, 1, 0.1}, {8, 2, 0.05}, {24, 2, 0.02}} {
		m := newMeter(c.channels)
		for i := range m.peaks {
			m.peaks[i] = slices.Repeat([]uint8{100}, int(c.hours*3600*50)+1)
		}
		m.peaks[0][0] = 1 // with others in the same interval
		w := m.waveform()
		require.InDelta(t, c.want, w.PerSecond, 0, "%v", c)
		require.InDelta(t, c.hours*3600*c.want, len(w.Values)/c.channels, 1, "%v", c)
		require.Equal(t, 100, slices.Min(w.Values))
		raw, err := json.Marshal(w.Values)
		require.NoError(t, err)
		require.Less(t, len(raw), 16_000, "%v", c)
	}
}
