package offline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	bytesPerSecond = 16000 * 2 // PocketSphinx's model needs 16 kHz, mono, 16 bit
	maxSeconds     = 2 * 60 * 60
)

// recognizer recognizes speech with ffmpeg and PocketSphinx.
type recognizer struct {
	tempDir  string
	modelDir string
	lookPath func(string) (string, error)
}

// recognize recognizes the speech in the recording at path. It stores temporary files in dir.
func (e recognizer) recognize(ctx context.Context, dir, path string) (speech, error) {
	tools, err := e.tools()
	if err != nil {
		return speech{}, err
	}
	samples := filepath.Join(dir, "samples")
	if err := tools.decode(ctx, dir, path, samples); err != nil {
		return speech{}, err
	}
	info, err := os.Stat(samples)
	if err != nil {
		return speech{}, fmt.Errorf("read the length of a recording: %w", err)
	}
	seconds := float64(info.Size()) / bytesPerSecond
	if seconds > maxSeconds {
		return speech{}, invalid("audio_too_long", fmt.Sprintf("the offline server takes recordings of up to %d minutes", maxSeconds/60))
	}
	segments, err := tools.recognize(ctx, dir, samples)
	return speech{seconds: seconds, segments: segments}, err
}

// tools are installed programs and an installed model.
type tools struct{ ffmpeg, pocketsphinx, model string }

func (e recognizer) tools() (tools, error) {
	ffmpeg, err := e.lookPath("ffmpeg")
	if err != nil {
		return tools{}, unavailable("ffmpeg")
	}
	pocketsphinx, err := e.lookPath("pocketsphinx_continuous")
	if err != nil {
		return tools{}, unavailable("PocketSphinx")
	}
	for _, file := range []string{"en-us/mdef", "en-us.lm.bin", "cmudict-en-us.dict"} {
		if _, err := os.Stat(filepath.Join(e.modelDir, file)); err != nil {
			return tools{}, unavailable("PocketSphinx's US English model")
		}
	}
	return tools{ffmpeg, pocketsphinx, e.modelDir}, nil
}

func unavailable(what string) *problem {
	return &problem{http.StatusServiceUnavailable, "provider_unavailable", what + " is not installed: " +
		"apt-get install pocketsphinx pocketsphinx-en-us ffmpeg, or set OPENAI_API_KEY"}
}

// decode writes the first audio track of an untrusted file as raw samples, up to one second more than allowed. ffmpeg may not use
// playlists, the network or other files.
func (t tools) decode(ctx context.Context, dir, from, to string) error {
	err := command(ctx, dir, t.ffmpeg, "-nostdin", "-v", "error", "-threads", "1",
		"-protocol_whitelist", "file,pipe", "-format_whitelist", "ogg,mp3,mov,matroska,wav,flac,aac,amr",
		"-i", from, "-map", "0:a:0", "-threads", "1", "-t", strconv.Itoa(maxSeconds+1),
		"-ac", "1", "-ar", "16000", "-f", "s16le", to).Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) && ctx.Err() == nil {
		return invalid("audio_unreadable", "the file is not audio that can be decoded")
	}
	if err != nil {
		return fmt.Errorf("decode a recording: %w", err)
	}
	return nil
}

func (t tools) recognize(ctx context.Context, dir, samples string) ([]segment, error) {
	out, err := command(ctx, dir, t.pocketsphinx, "-infile", samples, "-time", "yes", "-logfn", os.DevNull,
		"-hmm", filepath.Join(t.model, "en-us"), "-lm", filepath.Join(t.model, "en-us.lm.bin"),
		"-dict", filepath.Join(t.model, "cmudict-en-us.dict")).Output()
	if err != nil {
		return nil, fmt.Errorf("recognize speech: %w", err)
	}
	return parse(string(out)), nil
}

// command returns a command that is killed with all its child processes when ctx ends.
func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// speech is the recognized speech of a recording.
type speech struct {
	seconds  float64
	segments []segment
}

// text returns one line per segment. There is no punctuation, so only pauses separate sentences.
func (s speech) text() string {
	lines := make([]string, len(s.segments))
	for i, seg := range s.segments {
		lines[i] = seg.Text
	}
	return strings.Join(lines, "\n")
}

// segment is the speech between two pauses, in OpenAI's format. Times are seconds from the start of the recording.
type segment struct {
	ID         int     `json:"id"`
	Start      float64 `json:"start"`
	End        float64 `json:"end"`
	Text       string  `json:"text"`
	AvgLogprob float64 `json:"avg_logprob"` // mean of PocketSphinx's log posterior over the words; 0 is certain
}

// parse parses the output of pocketsphinx_continuous -time: a line of text per segment, then a line per word with its start, end
// and probability. Words in brackets are silence and noise, and a number in parentheses after a word is its pronunciation.
func parse(out string) []segment {
	segments := []segment{}
	var words []string
	var current segment
	flush := func() {
		if len(words) > 0 {
			current.ID, current.Text = len(segments), strings.Join(words, " ")
			current.AvgLogprob /= float64(len(words))
			segments = append(segments, current)
		}
		words, current = nil, segment{}
	}
	for line := range strings.Lines(out) {
		word, start, end, probability, ok := parseWord(line)
		switch {
		case !ok || word == "<s>":
			flush()
		case strings.ContainsAny(word[:1], "<[+"):
		default:
			if len(words) == 0 {
				current.Start = start
			}
			words, current.End = append(words, word), end
			current.AvgLogprob += math.Log(min(max(probability, 1e-6), 1))
		}
	}
	flush()
	return segments
}

func parseWord(line string) (word string, start, end, probability float64, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 4 {
		return "", 0, 0, 0, false
	}
	var numbers [3]float64
	for i, field := range fields[1:] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return "", 0, 0, 0, false
		}
		numbers[i] = n
	}
	word, _, _ = strings.Cut(fields[0], "(")
	return word, numbers[0], numbers[1], numbers[2], word != ""
}
