package audio

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// manySamples returns a small m4a whose tables claim a single chunk with that many samples of one byte (ISO/IEC 14496-12,
// sections 8.6.1.2, 8.7.3.2 and 8.7.4). Without limits, ffmpeg makes an index entry of 24 bytes for each of them.
func manySamples(t *testing.T, samples uint32) []byte {
	t.Helper()
	file := produce(t, "sine=440:duration=1", "-c:a", "aac", "-b:a", "24k", "-f", "ipod")
	set := func(box string, offset int, values ...uint32) {
		at := bytes.Index(file, []byte(box))
		require.Positive(t, at, box)
		for i, v := range values {
			binary.BigEndian.PutUint32(file[at+offset+4*i:], v)
		}
	}
	set("stsz", 8, 1, samples) // the size of each sample, how many
	set("stsc", 16, samples)   // per chunk
	set("stts", 12, samples)   // of the first duration
	require.Less(t, len(file), 10_000)
	return file
}

// tooMuch is what no decode may use, in bytes, beside what a process that does nothing is said to use: Linux counts the memory of the
// process that starts another one as that one's.
const tooMuch = 300 << 20

func idle(t *testing.T, p *Preparer) int64 {
	t.Helper()
	out, err := p.run(t.Context(), "version", t.TempDir(), p.ffmpeg, "-version")
	require.NoError(t, err)
	return out.memory
}

func TestASmallFileCannotUseMuchMemory(t *testing.T) {
	t.Parallel()
	p, dir := open(t, ofOpenAI())
	file := manySamples(t, 80_000_000) // 1.9 GB
	require.NoError(t, os.WriteFile(filepath.Join(dir, "recording"), file, 0o600))
	out, _ := p.run(t.Context(), "decode", dir, p.ffmpeg, decodeArgs("mov", p.mono("speech.ogg"))...) // it decodes little or nothing
	t.Logf("%d bytes of m4a took %d MB", len(file), out.memory>>20)
	require.Positive(t, out.memory)
	require.Less(t, out.memory, idle(t, p)+tooMuch)

	prepared, err := p.Prepare(t.Context(), bytes.NewReader(file), "audio/mp4")
	if err == nil { // ffmpeg may find a sound in it
		prepared.Close()
	} else {
		require.False(t, fault.Retryable(err), err)
	}

	// The kernel enforces the limit also for memory that is allocated in small blocks.
	_, err = limits{cpu: time.Minute, memory: 200 << 20}.execute(t.Context(), dir, p.ffmpeg, decodeArgs("mov", p.mono("speech.ogg"))...)
	require.Error(t, err)
}

// The whole index of 8 hours fits into the limits. Decoding all of it takes minutes; see docs/adr/0023-ffmpeg-runs-within-limits.md.
func TestTheLongestRecordingFitsTheLimits(t *testing.T) {
	t.Parallel()
	p, dir := open(t, ofOpenAI())
	minute := filepath.Join(dir, "minute")
	require.NoError(t, os.WriteFile(minute, produce(t, "sine=440:duration=60:sample_rate=8000", "-c:a", "aac", "-b:a", "8k", "-f", "ipod"), 0o600))
	whole, err := exec.CommandContext(t.Context(), p.ffmpeg, "-nostdin", "-v", "error", "-stream_loop", "479", "-i", minute, "-c", "copy", "-f", "ipod", filepath.Join(dir, "recording")).CombinedOutput()
	require.NoError(t, err, string(whole))
	channels, err := p.checkTrack(t.Context(), dir, "mov")
	require.NoError(t, err)
	require.Equal(t, 1, channels)
	out, err := p.run(t.Context(), "decode", dir, p.ffmpeg, slices.Concat([]string{"-nostdin", "-y", "-v", "error", "-ss", "28700"}, input("mov", "recording"), []string{"-f", "wav", "end.wav"})...)
	require.NoError(t, err)
	t.Logf("the end of 8 hours took %d MB", out.memory>>20)
	info, err := os.Stat(filepath.Join(dir, "end.wav"))
	require.NoError(t, err)
	require.InDelta(t, 100*8000*2, info.Size(), 30*8000*2, "the last seconds were decoded")
}

func TestTracksThatNoRecordingHasAreUnreadable(t *testing.T) {
	t.Parallel()
	p, dir := open(t, ofOpenAI())
	// track returns a second of 16-bit wave with another rate and number of channels.
	track := func(rate uint32, channels uint16) []byte {
		file := produce(t, "sine=440:duration=1:sample_rate=8000", "-c:a", "pcm_s16le", "-f", "wav")
		at := bytes.Index(file, []byte("fmt ")) + 8
		binary.LittleEndian.PutUint16(file[at+2:], channels)
		binary.LittleEndian.PutUint32(file[at+4:], rate)
		binary.LittleEndian.PutUint32(file[at+8:], rate*2*uint32(channels))
		binary.LittleEndian.PutUint16(file[at+12:], 2*channels)
		return file
	}
	for _, c := range []struct {
		rate     uint32
		channels uint16
		readable bool
	}{{8_000, 1, true}, {192_000, 2, true}, {1, 1, false}, {3_999, 1, false}, {192_001, 1, false}, {1_000_000_000, 1, false}, {8_000, 17, false}, {8_000, 255, false}} {
		prepared, err := p.Prepare(t.Context(), bytes.NewReader(track(c.rate, c.channels)), "audio/wav")
		if c.readable {
			require.NoError(t, err)
			prepared.Close()
			continue
		}
		require.Equal(t, call.CodeUnreadable, fault.Of(err).Code, "%d Hz, %d channels: %v", c.rate, c.channels, err)
		require.False(t, fault.Retryable(err))
	}
	require.Empty(t, jobs(t, dir))
}

func TestWorkIsLimitedInTime(t *testing.T) {
	t.Parallel()
	_, err := limits{cpu: time.Second, memory: MaxMemory}.execute(t.Context(), t.TempDir(), "/bin/sh", "-c", "while :; do :; done")
	require.ErrorIs(t, err, errKilled)
}

// script is a program that counts its runs and is killed in the first ones.
func script(t *testing.T, killed string) (path, runs string) {
	t.Helper()
	real, err := exec.LookPath("ffmpeg")
	require.NoError(t, err)
	dir := t.TempDir()
	path, runs = filepath.Join(dir, "ffmpeg"), filepath.Join(dir, "runs")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho run >> "+runs+"\n[ $(wc -l < "+runs+") -gt "+killed+" ] || kill -9 $$\nexec "+real+" \"$@\"\n"), 0o700))
	return path, runs
}

func TestADecodeThatIsKilledTwiceIsFinal(t *testing.T) {
	t.Parallel()
	for killed, ok := range map[string]bool{"1": true, "100": false} {
		p, dir := open(t, ofOpenAI())
		var runs string
		p.ffmpeg, runs = script(t, killed)
		prepared, err := p.Prepare(t.Context(), bytes.NewReader(produce(t, "sine=440:duration=1", "-f", "wav")), "audio/wav")
		if ok {
			require.NoError(t, err, "the system may have been out of memory")
			prepared.Close()
		} else {
			require.Equal(t, call.CodeUnreadable, fault.Of(err).Code)
			require.False(t, fault.Retryable(err))
		}
		raw, err := os.ReadFile(runs)
		require.NoError(t, err)
		require.Equal(t, 2, strings.Count(string(raw), "run"))
		require.Empty(t, jobs(t, dir))
	}
}

// The runs that split a long recording are decodes too.
func TestASplitThatIsKilledTwiceIsFinal(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]string{"cut a chunk": "chunk-000-speech.ogg"} {
		p, dir := open(t, FileLimits{Bytes: 5_000, Seconds: 3600})
		ffmpeg, runs := p.ffmpeg, filepath.Join(t.TempDir(), "runs")
		p.ffmpeg = filepath.Join(t.TempDir(), "ffmpeg")
		require.NoError(t, os.WriteFile(p.ffmpeg, []byte("#!/bin/sh\nfor last; do :; done\nif [ \"$last\" = "+last+" ]; then echo run >> "+runs+"; kill -9 $$; fi\nexec "+ffmpeg+" \"$@\"\n"), 0o700))
		_, err := p.Prepare(t.Context(), bytes.NewReader(produce(t, "sine=440:duration=10", "-f", "wav")), "audio/wav")
		require.Equal(t, call.CodeUnreadable, fault.Of(err).Code, "%s: %v", name, err)
		require.False(t, fault.Retryable(err), name)
		raw, err := os.ReadFile(runs)
		require.NoError(t, err)
		require.Equal(t, 2, strings.Count(string(raw), "run"), name)
		require.Empty(t, jobs(t, dir))
	}
}

func TestAMachineThatCannotDecodeIsNotABadRecording(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Preparer){
		"no program":     func(p *Preparer) { p.ffprobe = "/nowhere/ffprobe" },
		"no such limits": func(p *Preparer) { p.limits.memory = -1 << 10 },
		"no executable":  func(p *Preparer) { p.ffmpeg = t.TempDir() },
	} {
		p, _ := open(t, ofOpenAI())
		change(p)
		_, err := p.Prepare(t.Context(), bytes.NewReader(produce(t, "sine=440:duration=1", "-f", "wav")), "audio/wav")
		require.Error(t, err, name)
		require.True(t, fault.Retryable(err), "%s: %v", name, err)
	}
}

// Another process once removed a directory between the creation of its lock and the locking.
func TestProcessesThatStartTogetherKeepTheirDirectories(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	spaces := make(chan *space, 200)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range cap(spaces) / 8 {
				s, err := claim(root)
				if err != nil {
					t.Error(err)
					return
				}
				spaces <- s
			}
		})
	}
	wg.Wait()
	close(spaces)
	for s := range spaces {
		require.DirExists(t, s.dir)
		s.release()
		require.NoDirExists(t, s.dir)
	}
}
