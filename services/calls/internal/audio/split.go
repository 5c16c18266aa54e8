package audio

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// What counts as a pause to cut at.
const silence = "silencedetect=noise=-35dB:d=0.4"

// split returns speech.ogg as it is, or in parts that a provider takes, cut in pauses where there are any.
func (s *Studio) split(ctx context.Context, dir string, duration float64) ([]call.SoundPart, error) {
	whole := filepath.Join(dir, "speech.ogg")
	info, err := os.Stat(whole)
	if err != nil {
		return nil, fmt.Errorf("measure the speech: %w", err)
	}
	if info.Size() <= s.partBytes {
		return []call.SoundPart{{Path: whole}}, nil
	}
	out, err := execute(ctx, dir, "ffmpeg", "-nostdin", "-hide_banner", "-nostats", "-protocol_whitelist", "file", "-f", "ogg", "-i", "speech.ogg", "-af", silence, "-f", "null", "-")
	if err != nil {
		return nil, fmt.Errorf("look for pauses: %w", err)
	}
	// A tenth below the limit, because the bit rate is not the same everywhere.
	longest := 0.9 * duration * float64(s.partBytes) / float64(info.Size())
	cuts := chooseCuts(pauses(out.stderr), duration, longest)
	parts := make([]call.SoundPart, len(cuts)-1)
	for i := range parts {
		name := fmt.Sprintf("part-%03d.ogg", i)
		_, err := execute(ctx, dir, "ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-f", "ogg",
			"-ss", seconds(cuts[i]), "-i", "speech.ogg", "-t", seconds(cuts[i+1]-cuts[i]), "-c", "copy", "-f", "ogg", name)
		if err != nil {
			return nil, fmt.Errorf("cut part %d: %w", i, err)
		}
		parts[i] = call.SoundPart{Path: filepath.Join(dir, name), Start: cuts[i]}
	}
	return parts, nil
}

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 3, 64) }

// pauses reads the middles of the silences that ffmpeg reports, in seconds.
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

// chooseCuts are the borders of parts that are no longer than longest, from 0 to duration: each at the last pause in the
// second half of what a part may be, or at its end where nobody pauses.
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
