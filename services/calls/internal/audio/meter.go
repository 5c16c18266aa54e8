package audio

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/convoflow/convoflow/services/calls/internal/call"
)

const (
	meterRate = 8000           // Hz
	frameSize = meterRate / 50 // samples of a frame, 20 ms
	frameTime = 1.0 / 50       // seconds
	maxPeaks  = 3900           // of all channels: in JSON they have less than 16 kB
)

// Levels in dBFS. Telephone speech is at -35 to -15, a quiet line at -60.
const (
	floorLevel = -100
	// Whatever is 40 dB below the loudest frame is silence, within these bounds.
	silenceBelowLoudest             = 40
	lowestSilence, highestSilence   = -70, -50
	pauseBelowLoudest, highestPause = 20, -35
)

// Spans of time, in seconds.
const (
	shortestPause = 0.4 // between words there are shorter ones
	shortestSound = 0.04
)

// meter measures PCM: 16 bits, little endian, 8 kHz, with interleaved channels. It is an io.Writer.
type meter struct {
	channels int
	rest     []byte // of a sample
	levels   [][]int8
	peaks    [][]uint8
	samples  int64 // of each channel
	squares  []float64
	loudest  []int
	filled   int // samples of the current frame
}

func newMeter(channels int) *meter {
	return &meter{
		channels: channels, levels: make([][]int8, channels), peaks: make([][]uint8, channels), squares: make([]float64, channels), loudest: make([]int, channels),
	}
}

func (m *meter) Write(p []byte) (int, error) {
	data, step := append(m.rest, p...), 2*m.channels
	for ; len(data) >= step; data = data[step:] {
		for c := range m.channels {
			v := int(int16(binary.LittleEndian.Uint16(data[2*c:])))
			m.squares[c] += float64(v) * float64(v)
			m.loudest[c] = max(m.loudest[c], v, -v)
		}
		m.samples++
		if m.filled++; m.filled == frameSize {
			m.endFrame()
		}
	}
	m.rest = append([]byte(nil), data...)
	return len(p), nil
}

// endFrame must be called after the last Write.
func (m *meter) endFrame() {
	if m.filled == 0 {
		return
	}
	for c := range m.channels {
		level := float64(floorLevel)
		if mean := m.squares[c] / float64(m.filled) / (32768 * 32768); mean > 0 {
			level = max(level, 10*math.Log10(mean))
		}
		m.levels[c] = append(m.levels[c], int8(math.Round(level)))
		m.peaks[c] = append(m.peaks[c], uint8(math.Round(100*float64(m.loudest[c])/32768)))
		m.squares[c], m.loudest[c] = 0, 0
	}
	m.filled = 0
}

func (m *meter) duration() float64 { return float64(m.samples) / meterRate }

// waveform returns the peaks, as many of them per second as fit.
func (m *meter) waveform() call.Peaks {
	frames, per := len(m.peaks[0]), 0
	for _, per = range []int{5, 10, 25, 50, 100, 250, 500, 1000, 2500} {
		if (frames+per-1)/per*m.channels <= maxPeaks {
			break
		}
	}
	w := call.Peaks{Channels: m.channels, PerSecond: 1 / (float64(per) * frameTime), Values: []int{}}
	for from := 0; from < frames; from += per {
		for _, peaks := range m.peaks {
			w.Values = append(w.Values, int(slices.Max(peaks[from:min(from+per, frames)])))
		}
	}
	return w
}

// loudestOf returns the levels of the loudest of the given channels.
func (m *meter) loudestOf(channels ...int) []int8 {
	levels := append([]int8(nil), m.levels[channels[0]]...)
	for _, c := range channels[1:] {
		for i, l := range m.levels[c] {
			levels[i] = max(levels[i], l)
		}
	}
	return levels
}

// all returns the levels of all channels together.
func (m *meter) all() []int8 {
	if m.channels == 2 {
		return m.loudestOf(0, 1)
	}
	return m.loudestOf(0)
}

// thresholds returns the levels below which a frame is silence, and a pause of speech.
func thresholds(levels []int8) (silence, pause int) {
	loudest := floorLevel
	for _, l := range levels {
		loudest = max(loudest, int(l))
	}
	silence = min(max(loudest-silenceBelowLoudest, lowestSilence), highestSilence)
	return silence, max(silence, min(loudest-pauseBelowLoudest, highestPause))
}

// above returns where frames have at least that level. Shorter pauses than shortestPause are part of the sound.
func above(levels []int8, threshold int) []call.Interval {
	var found []call.Interval
	for i := 0; i < len(levels); i++ {
		if int(levels[i]) < threshold {
			continue
		}
		from := i
		for i < len(levels) && int(levels[i]) >= threshold {
			i++
		}
		sound := call.Interval{Start: float64(from) * frameTime, End: float64(i) * frameTime}
		if last := len(found) - 1; last >= 0 && sound.Start-found[last].End < shortestPause {
			found[last].End = sound.End
		} else if sound.End-sound.Start >= shortestSound {
			found = append(found, sound)
		}
	}
	return found
}

const (
	dominance    = 6    // dB by which a speaker is louder on the own channel
	minDominated = 0.5  // share of the sound that is dominated by one channel
	minSpeaker   = 0.02 // share of the sound that each speaker has at least
)

// twoSpeakers reports whether each of two channels has a speaker of its own: most of the time one of them is much louder, and each of
// them sometimes.
func (m *meter) twoSpeakers() bool {
	if m.channels != 2 {
		return false
	}
	silence, _ := thresholds(m.all())
	sound, louder := 0.0, [2]float64{}
	for i := range m.levels[0] {
		a, b := int(m.levels[0][i]), int(m.levels[1][i])
		if max(a, b) < silence {
			continue
		}
		sound++
		if a >= b+dominance {
			louder[0]++
		} else if b >= a+dominance {
			louder[1]++
		}
	}
	return min(louder[0], louder[1]) > minSpeaker*sound && louder[0]+louder[1] >= minDominated*sound
}
