// Package audio prepares recordings of any accepted format for speech recognition. It runs ffmpeg as a process, which measures
// a recording by decoding it, converts it to 16 kHz mono Opus and splits it at pauses. It detects a file's format from its
// bytes, and refuses to trust its name, declared type or claimed duration.
package audio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

const (
	bitrate    = "24k" // bit/s of Opus: speech remains clear, and 24 MB are 2.3 hours
	complexity = "0"   // of Opus, 0 to 10: speech is recognized as well as with the default 10, in a third of the CPU time (ADR 69)
	// Bounds of a track, from telephones to studios. At 1 Hz, 20 kB are hours of sound.
	minRate, maxRate = 4_000, 192_000 // Hz
	maxChannels      = 16
)

// FileLimits are the limits of one file that a provider accepts.
type FileLimits struct {
	Bytes   int64
	Seconds float64
}

// Preparer implements call.Preparer. It works in temporary directories of its own.
type Preparer struct {
	space           *space
	file            FileLimits
	maxDuration     int    // seconds of a recording; a small file can claim to be years of silence
	ffmpeg, ffprobe string // paths
	limits          limits

	Steps *telemetry.Steps // measures the runs of ffmpeg and ffprobe; may be nil
}

// Open returns a preparer with its temporary files below dir, by default the system's directory for them, and removes those of
// killed processes. No chunk exceeds the limits of a file, and no recording maxHours. If a program is missing, the error says what to
// install.
func Open(dir string, file FileLimits, maxHours int) (*Preparer, error) {
	p := &Preparer{file: file, maxDuration: maxHours * 3600, limits: limits{cpu: maxCPU, memory: MaxMemory}}
	if runtime.GOOS != "linux" {
		p.limits.memory = 0
	}
	for _, program := range []struct {
		name string
		path *string
	}{{"ffmpeg", &p.ffmpeg}, {"ffprobe", &p.ffprobe}} {
		var err error
		if *program.path, err = exec.LookPath(program.name); err != nil {
			return nil, fmt.Errorf("%s is not installed: apt-get install ffmpeg", program.name)
		}
	}
	if dir == "" {
		dir = os.TempDir()
	}
	var err error
	if p.space, err = claim(filepath.Join(dir, "convoflow-calls")); err != nil {
		return nil, fmt.Errorf("make a directory for temporary files: %w", err)
	}
	return p, nil
}

// Close removes all temporary files.
func (p *Preparer) Close() { p.space.release() }

// Prepare decodes a recording. It fails with the Invalid fault audio_unreadable or audio_too_long if it cannot be decoded.
func (p *Preparer) Prepare(ctx context.Context, r io.Reader, contentType string) (prepared call.PreparedAudio, err error) {
	dir, err := p.space.directory()
	if err != nil {
		return prepared, fmt.Errorf("make a directory for a recording: %w", err)
	}
	prepared.Close = func() { _ = os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			prepared.Close()
		}
	}()
	if err := store(ctx, filepath.Join(dir, "recording"), r); err != nil {
		return prepared, fmt.Errorf("copy the recording: %w", err)
	}
	demuxer, ok := demuxers()[contentType]
	if !ok {
		return prepared, unreadable(fmt.Errorf("no demuxer for %s", contentType))
	}
	channels, err := p.checkTrack(ctx, dir, demuxer)
	if err != nil {
		return prepared, err
	}
	levels, err := p.normalize(ctx, dir, demuxer, channels)
	if err != nil {
		return prepared, err
	}
	prepared.Duration, prepared.Peaks = levels.duration(), levels.waveform()
	if prepared.Duration > float64(p.maxDuration) {
		return prepared, fault.New(fault.Invalid, call.CodeTooLong, fmt.Sprintf("The recording is longer than %d h, the most that is transcribed", p.maxDuration/3600))
	}
	prepared.Chunks, err = p.split(ctx, dir, demuxer, levels)
	return prepared, err
}

// store copies a recording. When ctx ends, so does the copy: a process that stops has no time for the rest of a large file.
func store(ctx context.Context, path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	_, err = io.Copy(f, r)
	return errors.Join(ctx.Err(), err, f.Close())
}

// input returns the arguments that read a file of a container, and nothing else.
func input(demuxer, file string) []string {
	return []string{"-protocol_whitelist", "file,pipe", "-f", demuxer, "-i", file}
}

// run runs ffmpeg or ffprobe as a step, within the limits. A run that is killed is repeated once, because the system may have had no memory
// for it. If it is killed again, the recording is the reason.
func (p *Preparer) run(ctx context.Context, step, dir, program string, args ...string) (output, error) {
	args = bounded(args)
	return p.measure(ctx, step, func(ctx context.Context) (output, error) { return p.limits.execute(ctx, dir, program, args...) })
}

// measure measures a run that is repeated once if it is killed.
func (p *Preparer) measure(ctx context.Context, step string, run func(context.Context) (output, error)) (out output, err error) {
	err = p.Steps.Do(ctx, step, "audio "+step, func(ctx context.Context) error {
		out, err = repeated(ctx, func() (output, error) { return run(ctx) })
		return undecodable(ctx, err)
	})
	return out, err
}

// bounded adds the limit of allocations to the arguments of a program.
func bounded(args []string) []string {
	return append([]string{"-max_alloc", strconv.Itoa(maxBlock)}, args...)
}

func repeated(ctx context.Context, run func() (output, error)) (output, error) {
	out, err := run()
	if !errors.Is(err, errKilled) || ctx.Err() != nil {
		return out, err
	}
	again, err := run()
	again.memory = max(again.memory, out.memory)
	return again, err
}

// checkTrack returns the number of channels of the first audio track. It refuses a sample rate or a number that no recording has.
func (p *Preparer) checkTrack(ctx context.Context, dir, demuxer string) (channels int, err error) {
	args := append([]string{"-v", "error", "-select_streams", "a:0", "-show_entries", "stream=sample_rate,channels", "-of", "json"}, input(demuxer, "recording")...)
	out, err := p.run(ctx, "probe", dir, p.ffprobe, args...)
	if err != nil {
		return 0, err
	}
	var probed struct {
		Streams []struct {
			Rate     int `json:"sample_rate,string"`
			Channels int `json:"channels"`
		} `json:"streams"`
	}
	if err := json.Unmarshal([]byte(out.stdout), &probed); err != nil {
		return 0, unreadable(fmt.Errorf("read what ffprobe found: %w", err))
	}
	if len(probed.Streams) == 0 {
		return 0, unreadable(errors.New("there is no audio track"))
	}
	t := probed.Streams[0]
	if t.Rate < minRate || t.Rate > maxRate || t.Channels < 1 || t.Channels > maxChannels {
		return 0, unreadable(fmt.Errorf("a track of %d Hz with %d channels", t.Rate, t.Channels))
	}
	return t.Channels, nil
}

// normalize converts the first audio track of the recording to speech.ogg, without its tags and pictures, and measures what it decodes.
func (p *Preparer) normalize(ctx context.Context, dir, demuxer string, channels int) (levels *meter, err error) {
	if channels != 2 {
		channels = 1
	}
	args := bounded(append(decodeArgs(demuxer, p.mono("speech.ogg")), p.measured(channels)...))
	_, err = p.measure(ctx, "decode", func(ctx context.Context) (output, error) {
		levels = newMeter(channels)
		return p.limits.stream(ctx, dir, levels, p.ffmpeg, args...)
	})
	if err != nil {
		return nil, err
	}
	levels.endFrame()
	if levels.samples == 0 {
		return nil, unreadable(errors.New("nothing was decoded"))
	}
	return levels, nil
}

// decodeArgs returns the arguments that decode the recording to outputs.
func decodeArgs(demuxer string, outputs ...[]string) []string {
	args := append([]string{"-nostdin", "-y", "-v", "error", "-threads", "1"}, input(demuxer, "recording")...)
	return append(args, slices.Concat(outputs...)...)
}

// track selects the first audio track of the recording, as long as a recording may be.
func (p *Preparer) track() []string {
	return []string{"-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1", "-t", strconv.Itoa(p.maxDuration + 1), "-threads", "1"}
}

// mono is the output of speech in a file. filter may select a channel.
func (p *Preparer) mono(file string, filter ...string) []string {
	return slices.Concat(p.track(), filter, []string{"-ac", "1", "-ar", "16000", "-c:a", "libopus", "-application", "voip", "-compression_level", complexity, "-b:a", bitrate, "-f", "ogg", file})
}

// measured is the output of samples for a meter.
func (p *Preparer) measured(channels int) []string {
	return append(p.track(), "-ac", strconv.Itoa(channels), "-ar", strconv.Itoa(meterRate), "-c:a", "pcm_s16le", "-f", "s16le", "pipe:1")
}

// undecodable distinguishes a file that cannot be decoded from a worker that must stop and a machine that cannot run ffmpeg.
func undecodable(ctx context.Context, err error) error {
	var exit *exec.ExitError
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.As(err, &exit) && (exit.ExitCode() < exitLimits || exit.ExitCode() > exitLimits+2) {
		return unreadable(err)
	}
	return err
}

func unreadable(cause error) error {
	return fault.Wrap(cause, fault.Invalid, call.CodeUnreadable, "The recording cannot be decoded: it is damaged, encrypted, empty or not audio")
}
