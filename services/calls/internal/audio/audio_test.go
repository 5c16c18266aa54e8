package audio

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

func produce(t *testing.T, filter string, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "audio")
	all := append([]string{"-nostdin", "-v", "error", "-f", "lavfi", "-i", filter}, args...)
	output, err := exec.CommandContext(t.Context(), "ffmpeg", append(all, out)...).CombinedOutput()
	require.NoError(t, err, string(output))
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	return raw
}

// ofOpenAI returns the limits of OpenAI's models.
func ofOpenAI() FileLimits { return FileLimits{Bytes: 24 << 20, Seconds: 1400} }

func open(t *testing.T, file FileLimits) (*Preparer, string) {
	t.Helper()
	dir := t.TempDir()
	p, err := Open(dir, file, 8)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p, dir
}

func jobs(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "convoflow-calls", "*", "call-*"))
	require.NoError(t, err)
	return found
}

func TestARecordingIsMeasuredByDecoding(t *testing.T) {
	t.Parallel()
	p, dir := open(t, ofOpenAI())
	mp3 := produce(t, "sine=440:duration=8", "-c:a", "libmp3lame", "-b:a", "64k", "-f", "mp3")
	for name, c := range map[string]struct {
		file []byte
		typ  string
		want float64
	}{
		"webm without a duration":    {produce(t, "sine=440:duration=3", "-c:a", "libopus", "-live", "1", "-f", "webm"), "audio/webm", 3},
		"mp3 cut in half":            {mp3[:len(mp3)/2], "audio/mpeg", 4},
		"wav that claims too much":   {produce(t, "sine=440:duration=3", "-c:a", "pcm_s16le", "-f", "wav")[:2*44100], "audio/wav", 1},
		"video with a sound track":   {produce(t, "sine=440:duration=3", "-f", "lavfi", "-i", "color=size=64x64:duration=3", "-c:v", "mpeg4", "-c:a", "aac", "-f", "mp4"), "audio/mp4", 3},
		"less than a second of wave": {produce(t, "sine=440:duration=0.3", "-c:a", "pcm_s16le", "-f", "wav"), "audio/wav", 0.3},
	} {
		prepared, err := p.Prepare(t.Context(), bytes.NewReader(c.file), c.typ)
		require.NoError(t, err, name)
		require.InDelta(t, c.want, prepared.Duration, 0.15, name)
		require.Len(t, prepared.Chunks, 1)
		raw, err := os.ReadFile(prepared.Chunks[0].Path)
		require.NoError(t, err)
		found, ok := Sniff(raw)
		require.True(t, ok)
		require.Equal(t, "audio/ogg", found)
		prepared.Close()
	}
	require.Empty(t, jobs(t, dir))
}

func TestALongRecordingIsRefused(t *testing.T) {
	t.Parallel()
	p, dir := open(t, ofOpenAI())
	require.Equal(t, 8*3600, p.maxDuration)
	p.maxDuration = 3
	_, err := p.Prepare(t.Context(), bytes.NewReader(produce(t, "sine=440:duration=60", "-c:a", "libopus", "-f", "ogg")), "audio/ogg")
	require.Equal(t, call.CodeTooLong, fault.Of(err).Code)
	require.True(t, fault.Is(err, fault.Invalid), "it is not tried again")
	require.Empty(t, jobs(t, dir))
	prepared, err := p.Prepare(t.Context(), bytes.NewReader(produce(t, "sine=440:duration=2.5", "-c:a", "libopus", "-f", "ogg")), "audio/ogg")
	require.NoError(t, err)
	prepared.Close()
}

func TestTagsAreRemoved(t *testing.T) {
	t.Parallel()
	p, _ := open(t, ofOpenAI())
	file := produce(t, "sine=440:duration=2", "-metadata", "title=Secret Customer", "-metadata", "comment=+491701234567", "-c:a", "libmp3lame", "-f", "mp3")
	require.Contains(t, string(file), "Secret Customer")
	prepared, err := p.Prepare(t.Context(), bytes.NewReader(file), "audio/mpeg")
	require.NoError(t, err)
	raw, err := os.ReadFile(prepared.Chunks[0].Path)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "Secret")
	require.NotContains(t, string(raw), "4917")
}

func TestARecordingThatCannotBeDecodedIsUnreadable(t *testing.T) {
	t.Parallel()
	p, dir := open(t, ofOpenAI())
	for name, c := range map[string]struct {
		file []byte
		typ  string
	}{
		"m4a without its end":     {produce(t, "sine=440:duration=3", "-c:a", "aac", "-f", "ipod")[:3000], "audio/mp4"},
		"noise after a header":    {append([]byte("OggS"), bytes.Repeat([]byte{7, 13, 42}, 5000)...), "audio/ogg"},
		"a playlist":              {[]byte("#EXTM3U\nfile:///etc/passwd\n"), "audio/mpeg"},
		"a concat script":         {[]byte("ffconcat version 1.0\nfile /etc/passwd\n"), "audio/aac"},
		"a picture without sound": {produce(t, "color=size=64x64:duration=1", "-c:v", "mpeg4", "-f", "mp4"), "audio/mp4"},
		"nothing":                 {nil, "audio/wav"},
		"unknown type":            {[]byte("x"), "text/plain"},
	} {
		_, err := p.Prepare(t.Context(), bytes.NewReader(c.file), c.typ)
		require.Equal(t, call.CodeUnreadable, fault.Of(err).Code, "%s: %v", name, err)
		require.False(t, fault.Retryable(err))
	}
	require.Empty(t, jobs(t, dir))
}

func TestAWorkerThatStopsIsNotABadRecording(t *testing.T) {
	t.Parallel()
	p, dir := open(t, ofOpenAI())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Prepare(ctx, bytes.NewReader(produce(t, "sine=440:duration=1", "-f", "wav")), "audio/wav")
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, jobs(t, dir))
}

func TestACopyEndsWithItsWorker(t *testing.T) {
	t.Parallel()
	p, dir := open(t, ofOpenAI())
	ctx, cancel := context.WithCancel(t.Context())
	_, err := p.Prepare(ctx, endless(cancel), "audio/wav")
	require.ErrorIs(t, err, context.Canceled)
	left, err := filepath.Glob(filepath.Join(dir, "*", "*", "recording"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// endless is a recording without an end. It calls the function with each read.
type endless func()

func (e endless) Read(p []byte) (int, error) {
	e()
	return len(p), nil
}

func TestProgramsDieWithTheirWorker(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	dir := t.TempDir()
	ended := make(chan error, 1)
	go func() {
		_, err := limits{cpu: maxCPU, memory: MaxMemory}.execute(ctx, dir, "/bin/sh", "-c", "sleep 300 & echo $! > new; mv new child; wait")
		ended <- err
	}()
	var raw []byte
	require.Eventually(t, func() (running bool) {
		var err error
		raw, err = os.ReadFile(filepath.Join(dir, "child"))
		return err == nil
	}, time.Minute, 10*time.Millisecond, "the program has started its child")
	stop()
	require.Error(t, <-ended)
	child := filepath.Join("/proc", strings.TrimSpace(string(raw)), "stat")
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(child)
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, time.Minute, 10*time.Millisecond, "the child of the program was not killed")
}

// speech is four sentences of 5 s of noise with pauses of a second between them.
const speech = "anoisesrc=duration=23:amplitude=0.5,volume='if(lt(mod(t,6),5),1,0)':eval=frame"

func TestLargeRecordingsAreCutInPauses(t *testing.T) {
	t.Parallel()
	p, _ := open(t, FileLimits{Bytes: 30_000, Seconds: 3600})
	prepared, err := p.Prepare(t.Context(), bytes.NewReader(produce(t, speech, "-ar", "16000", "-f", "wav")), "audio/wav")
	require.NoError(t, err)
	defer prepared.Close()
	require.InDelta(t, 23, prepared.Duration, 0.1)
	require.Greater(t, len(prepared.Chunks), 2)
	sum := 0.0
	for i, chunk := range prepared.Chunks {
		info, err := os.Stat(chunk.Path)
		require.NoError(t, err)
		require.LessOrEqual(t, info.Size(), int64(30_000), "chunk %d", i)
		out, err := p.run(t.Context(), "probe", filepath.Dir(chunk.Path), p.ffprobe, "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", filepath.Base(chunk.Path))
		require.NoError(t, err)
		var duration float64
		_, err = fmt.Sscan(out.stdout, &duration)
		require.NoError(t, err)
		require.InDelta(t, sum, chunk.Start, 0.2, "chunk %d begins where the one before ended", i)
		sum += duration
		if i > 0 {
			second := math.Mod(chunk.Start, 6)
			require.True(t, second >= 4.9 && second <= 6, "chunk %d begins at %.2f, in the middle of a sentence", i, chunk.Start)
		}
	}
	require.InDelta(t, prepared.Duration, sum, 0.3, "nothing is left out")
}

func TestCuts(t *testing.T) {
	t.Parallel()
	whole := call.Interval{Start: 0, End: 10}
	require.Equal(t, []call.Interval{whole}, chooseCuts(nil, whole, 10))
	require.Equal(t, []call.Interval{{Start: 0, End: 4}, {Start: 4, End: 8}, {Start: 8, End: 10}}, chooseCuts(nil, whole, 4), "without pauses")
	require.Equal(t, []call.Interval{{Start: 0, End: 3}, {Start: 3, End: 6.5}, {Start: 6.5, End: 10}}, chooseCuts([]float64{1, 2.5, 3, 6.5, 9}, whole, 4), "the last pause that fits")
	require.Equal(t, []call.Interval{{Start: 0, End: 4}, {Start: 4, End: 8}, {Start: 8, End: 10}}, chooseCuts([]float64{0.1, 4.1, 8.1}, whole, 4), "a pause too early makes no tiny chunk")
	require.Equal(t, []call.Interval{{Start: 100, End: 103}, {Start: 103, End: 107}}, chooseCuts([]float64{1, 103, 106}, call.Interval{Start: 100, End: 107}, 4), "of a region")
}

func TestDirectoriesOfDeadProcessesAreRemoved(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	living, err := claim(root)
	require.NoError(t, err)
	dead, err := claim(root)
	require.NoError(t, err)
	_, err = dead.directory()
	require.NoError(t, err)
	dead.unlock() // which is what the kernel does with a killed process

	next, err := claim(root)
	require.NoError(t, err)
	require.NoDirExists(t, dead.dir)
	require.DirExists(t, living.dir)
	living.release()
	next.release()
	require.NoDirExists(t, living.dir)
}

func TestMissingProgramsAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Open(t.TempDir(), ofOpenAI(), 8)
	require.EqualError(t, err, "ffmpeg is not installed: apt-get install ffmpeg")
}

func FuzzSniff(f *testing.F) {
	for _, seed := range []string{"", "ID3\x04\x00\x00\x00\x00\x00\x01", "RIFF\x00\x00\x00\x00WAVEfmt ", "OggS", "fLaC\x00\x00\x00\x22", "#!AMR\n", "\x1aE\xdf\xa3", "\x00\x00\x00\x18ftypM4A ", "#EXTM3U\n", "hello"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		name, ok := Sniff(head)
		_, known := demuxers()[name]
		require.Equal(t, known, ok)
	})
}
