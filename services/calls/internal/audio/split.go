package audio

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// silence defines a pause, in which a cut may be made.
const silence = "silencedetect=noise=-35dB:d=0.4"

// split returns speech.ogg as it is, or in chunks that a provider accepts, cut at pauses if there are any.
func (p *Preparer) split(ctx context.Context, dir string, duration float64) ([]call.Chunk, error) {
	whole := filepath.Join(dir, "speech.ogg")
	info, err := os.Stat(whole)
	if err != nil {
		return nil, fmt.Errorf("measure the speech: %w", err)
	}
	if info.Size() <= p.chunkBytes {
		return []call.Chunk{{Path: whole}}, nil
	}
	out, err := p.run(ctx, dir, p.ffmpeg, slices.Concat([]string{"-nostdin", "-hide_banner", "-nostats", "-threads", "1"}, input("ogg", "speech.ogg"), []string{"-af", silence, "-f", "null", "-"})...)
	if err != nil {
		return nil, fmt.Errorf("look for pauses: %w", undecodable(ctx, err))
	}
	// A tenth below the limit, because the bit rate varies.
	longest := 0.9 * duration * float64(p.chunkBytes) / float64(info.Size())
	cuts := chooseCuts(pauses(out.stderr), duration, longest)
	chunks := make([]call.Chunk, len(cuts)-1)
	for i := range chunks {
		name := fmt.Sprintf("chunk-%03d.ogg", i)
		_, err := p.run(ctx, dir, p.ffmpeg, slices.Concat([]string{"-nostdin", "-y", "-v", "error", "-ss", seconds(cuts[i])}, input("ogg", "speech.ogg"),
			[]string{"-t", seconds(cuts[i+1] - cuts[i]), "-c", "copy", "-f", "ogg", name})...)
		if err != nil {
			return nil, fmt.Errorf("cut chunk %d: %w", i, undecodable(ctx, err))
		}
		chunks[i] = call.Chunk{Path: filepath.Join(dir, name), Start: cuts[i]}
	}
	return chunks, nil
}

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 3, 64) }

// pauses returns the midpoints of the silences that ffmpeg reports, in seconds.
func pauses(report string) []float64 {
	var middles []float64
	found := regexp.MustCompile(`silence_end: ([0-9.]+) \| silence_duration: ([0-9.]+)`)
	for _, m := range found.FindAllStringSubmatch(report, -1) {
		end, endErr := strconv.ParseFloat(m[1], 64)
		length, lengthErr := strconv.ParseFloat(m[2], 64)
		if endErr == nil && lengthErr == nil {
			middles = append(middles, end-length/2)
		}
	}
	return middles
}

// chooseCuts returns the borders, from 0 to duration, of chunks that are no longer than longest. Each is at the last pause in
// the second half of the longest possible chunk, or at its end if there is no pause.
func chooseCuts(pauses []float64, duration, longest float64) []float64 {
	cuts := []float64{0}
	for at := 0.0; duration-at > longest; cuts = append(cuts, at) {
		next := at + longest
		for _, p := range pauses {
			if p > at+longest/2 && p <= at+longest {
				next = p
			}
		}
		at = next
	}
	return append(cuts, duration)
}
