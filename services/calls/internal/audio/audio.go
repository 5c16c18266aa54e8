// Package audio prepares recordings of any accepted format for speech recognition. It runs ffmpeg as a process, which measures
// a recording by decoding it, converts it to 16 kHz mono Opus and splits it at pauses. It detects a file's format from its
// bytes, and refuses to trust its name, declared type or claimed duration.
package audio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

const (
	bitrate     = "24k"            // bit/s of Opus: speech remains clear, and 24 MB are 2.3 hours
	maxDuration = 8 * 60 * 60      // seconds of a recording; a small file can claim to be years of silence
	maxTime     = 15 * time.Minute // of one run of ffmpeg, which decodes an hour in about 20 s
)

// ChunkBytes is the largest file that a provider accepts: OpenAI's limit of 25 MB includes the rest of the request.
const ChunkBytes = 24 << 20

// Preparer implements call.Preparer. It works in temporary directories of its own.
type Preparer struct {
	space      *space
	chunkBytes int64
}

// Open returns a preparer with its temporary files below dir, by default the system's directory for them, and removes those of
// killed processes. Chunks have at most chunkBytes. If a program is missing, the error says what to install.
func Open(dir string, chunkBytes int64) (*Preparer, error) {
	for _, program := range []string{"ffmpeg", "ffprobe"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%s is not installed: apt-get install ffmpeg", program)
		}
	}
	if dir == "" {
		dir = os.TempDir()
	}
	s, err := claim(filepath.Join(dir, "convoflow-calls"))
	if err != nil {
		return nil, fmt.Errorf("make a directory for temporary files: %w", err)
	}
	return &Preparer{space: s, chunkBytes: chunkBytes}, nil
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
	if err := normalize(ctx, dir, contentType); err != nil {
		return prepared, err
	}
	if prepared.Duration, err = measure(ctx, dir); err != nil {
		return prepared, err
	}
	if prepared.Duration > maxDuration {
		return prepared, fault.New(fault.Invalid, call.CodeTooLong, fmt.Sprintf("The recording is longer than %d hours", maxDuration/3600))
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

// normalize converts the first audio track of the recording to speech.ogg, without its tags and pictures.
func normalize(ctx context.Context, dir, contentType string) error {
	demuxer, ok := demuxers()[contentType]
	if !ok {
		return unreadable(fmt.Errorf("no demuxer for %s", contentType))
	}
	_, err := execute(ctx, dir, "ffmpeg", "-nostdin", "-v", "error", "-threads", "1",
		"-protocol_whitelist", "file,pipe", "-f", demuxer, "-i", "recording",
		"-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1", "-t", strconv.Itoa(maxDuration+1),
		"-threads", "1", "-ac", "1", "-ar", "16000", "-c:a", "libopus", "-b:a", bitrate, "-f", "ogg", "speech.ogg")
	if err != nil {
		return undecodable(ctx, err)
	}
	return nil
}

// measure returns the decoded duration in seconds.
func measure(ctx context.Context, dir string) (float64, error) {
	out, err := execute(ctx, dir, "ffprobe", "-v", "error", "-protocol_whitelist", "file", "-f", "ogg",
		"-show_entries", "format=duration", "-of", "csv=p=0", "speech.ogg")
	if err != nil {
		return 0, undecodable(ctx, err)
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(out.stdout), 64)
	if err != nil || seconds <= 0 {
		return 0, unreadable(errors.New("nothing was decoded"))
	}
	return seconds, nil
}

// undecodable distinguishes a damaged file from a worker that must stop and a machine that cannot run ffmpeg.
func undecodable(ctx context.Context, err error) error {
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.As(err, &exit) && exit.Exited() {
		return unreadable(err)
	}
	return err
}

func unreadable(cause error) error {
	return fault.Wrap(cause, fault.Invalid, call.CodeUnreadable, "The recording cannot be decoded: it is damaged or not audio")
}
