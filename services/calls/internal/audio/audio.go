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
	"strings"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

const (
	bitrate = "24k" // bit/s of Opus: speech remains clear, and 24 MB are 2.3 hours
	// Bounds of a track, from telephones to studios. At 1 Hz, 20 kB are hours of sound.
	minRate, maxRate = 4_000, 192_000 // Hz
	maxChannels      = 16
)

// ChunkBytes is the largest file that a provider accepts: OpenAI's limit of 25 MB includes the rest of the request.
const ChunkBytes = 24 << 20

// Preparer implements call.Preparer. It works in temporary directories of its own.
type Preparer struct {
	space           *space
	chunkBytes      int64
	maxDuration     int    // seconds of a recording; a small file can claim to be years of silence
	ffmpeg, ffprobe string // paths
	limits          limits
}

// Open returns a preparer with its temporary files below dir, by default the system's directory for them, and removes those of
// killed processes. Chunks have at most chunkBytes, and recordings maxHours. If a program is missing, the error says what to install.
func Open(dir string, chunkBytes int64, maxHours int) (*Preparer, error) {
	p := &Preparer{chunkBytes: chunkBytes, maxDuration: maxHours * 3600, limits: limits{cpu: maxCPU, memory: MaxMemory}}
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
	if err := store(filepath.Join(dir, "recording"), r); err != nil {
		return prepared, fmt.Errorf("copy the recording: %w", err)
	}
	demuxer, ok := demuxers()[contentType]
	if !ok {
		return prepared, unreadable(fmt.Errorf("no demuxer for %s", contentType))
	}
	if err := p.checkTrack(ctx, dir, demuxer); err != nil {
		return prepared, err
	}
	if err := p.normalize(ctx, dir, demuxer); err != nil {
		return prepared, err
	}
	if prepared.Duration, err = p.measure(ctx, dir); err != nil {
		return prepared, err
	}
	if prepared.Duration > float64(p.maxDuration) {
		return prepared, fault.New(fault.Invalid, call.CodeTooLong, fmt.Sprintf("The recording is longer than %d hours", p.maxDuration/3600))
	}
	prepared.Chunks, err = p.split(ctx, dir, prepared.Duration)
	return prepared, err
}

func store(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// input returns the arguments that read a file of a container, and nothing else.
func input(demuxer, file string) []string {
	return []string{"-protocol_whitelist", "file,pipe", "-f", demuxer, "-i", file}
}

// run runs ffmpeg or ffprobe within the limits. A run that is killed is repeated once, because the system may have had no memory
// for it. If it is killed again, the recording is the reason.
func (p *Preparer) run(ctx context.Context, dir, program string, args ...string) (output, error) {
	args = append([]string{"-max_alloc", strconv.Itoa(maxBlock)}, args...)
	out, err := p.limits.execute(ctx, dir, program, args...)
	if !errors.Is(err, errKilled) || ctx.Err() != nil {
		return out, err
	}
	again, err := p.limits.execute(ctx, dir, program, args...)
	again.memory = max(again.memory, out.memory)
	return again, err
}

// checkTrack refuses a first audio track with a sample rate or number of channels that no recording has.
func (p *Preparer) checkTrack(ctx context.Context, dir, demuxer string) error {
	args := append([]string{"-v", "error", "-select_streams", "a:0", "-show_entries", "stream=sample_rate,channels", "-of", "json"}, input(demuxer, "recording")...)
	out, err := p.run(ctx, dir, p.ffprobe, args...)
	if err != nil {
		return undecodable(ctx, err)
	}
	var probed struct {
		Streams []struct {
			Rate     int `json:"sample_rate,string"`
			Channels int `json:"channels"`
		} `json:"streams"`
	}
	if err := json.Unmarshal([]byte(out.stdout), &probed); err != nil {
		return unreadable(fmt.Errorf("read what ffprobe found: %w", err))
	}
	if len(probed.Streams) == 0 {
		return unreadable(errors.New("there is no audio track"))
	}
	if t := probed.Streams[0]; t.Rate < minRate || t.Rate > maxRate || t.Channels < 1 || t.Channels > maxChannels {
		return unreadable(fmt.Errorf("a track of %d Hz with %d channels", t.Rate, t.Channels))
	}
	return nil
}

// normalize converts the first audio track of the recording to speech.ogg, without its tags and pictures.
func (p *Preparer) normalize(ctx context.Context, dir, demuxer string) error {
	if _, err := p.run(ctx, dir, p.ffmpeg, decodeArgs(demuxer, p.maxDuration)...); err != nil {
		return undecodable(ctx, err)
	}
	return nil
}

func decodeArgs(demuxer string, maxDuration int) []string {
	return slices.Concat([]string{"-nostdin", "-y", "-v", "error", "-threads", "1"}, input(demuxer, "recording"), []string{
		"-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1", "-t", strconv.Itoa(maxDuration + 1),
		"-threads", "1", "-ac", "1", "-ar", "16000", "-c:a", "libopus", "-b:a", bitrate, "-f", "ogg", "speech.ogg",
	})
}

// measure returns the decoded duration in seconds.
func (p *Preparer) measure(ctx context.Context, dir string) (float64, error) {
	out, err := p.run(ctx, dir, p.ffprobe, append([]string{"-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"}, input("ogg", "speech.ogg")...)...)
	if err != nil {
		return 0, undecodable(ctx, err)
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(out.stdout), 64)
	if err != nil || seconds <= 0 {
		return 0, unreadable(errors.New("nothing was decoded"))
	}
	return seconds, nil
}

// undecodable distinguishes a file that cannot be decoded from a worker that must stop and a machine that cannot run ffmpeg.
func undecodable(ctx context.Context, err error) error {
	var exit *exec.ExitError
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
