package audio

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Silences that are longer are not sent to a provider, in seconds. On the channel of one speaker they are the turns of the other one.
const (
	longestSilence      = 20
	longestSilenceOfOne = 5
	edge                = 0.5 // seconds of silence that are sent before and after sound
	bytesMargin         = 0.9 // of the limit in bytes, because the bit rate varies
)

// source is a file with the speech of one or all channels.
type source struct {
	file    string
	speaker *string
	levels  []int8
	silence float64 // longer ones are left out
}

// split returns the speech in files that a provider accepts, without long silences, and cut at pauses where that is possible. A
// recording with a speaker on each of two channels has the files of each channel, first the agent's.
func (p *Preparer) split(ctx context.Context, dir, demuxer string, levels *meter) ([]call.Chunk, error) {
	sources := []source{{file: "speech.ogg", levels: levels.all(), silence: longestSilence}}
	if levels.twoSpeakers() {
		sources = []source{
			{"agent.ogg", new(call.RoleAgent), levels.loudestOf(0), longestSilenceOfOne}, {"client.ogg", new(call.RoleClient), levels.loudestOf(1), longestSilenceOfOne},
		}
		args := decodeArgs(demuxer, p.mono("agent.ogg", "-af", "pan=mono|c0=c0"), p.mono("client.ogg", "-af", "pan=mono|c0=c1"))
		if _, err := p.run(ctx, "split", dir, p.ffmpeg, args...); err != nil {
			return nil, err
		}
	}
	var chunks []call.Chunk
	for _, s := range sources {
		cut, err := p.cut(ctx, dir, s, levels.duration())
		if err != nil {
			return nil, err
		}
		chunks = append(chunks, cut...)
	}
	return chunks, nil
}

// cut returns the chunks of one source.
func (p *Preparer) cut(ctx context.Context, dir string, s source, duration float64) ([]call.Chunk, error) {
	info, err := os.Stat(filepath.Join(dir, s.file))
	if err != nil {
		return nil, fmt.Errorf("measure the speech: %w", err)
	}
	silence, pause := thresholds(s.levels)
	sound := above(s.levels, silence)
	longest := min(p.file.Seconds, bytesMargin*duration*float64(p.file.Bytes)/float64(info.Size()))
	if info.Size() <= p.file.Bytes && duration <= p.file.Seconds {
		longest = duration
	}
	var chunks []call.Chunk
	pauses := pausesBetween(above(s.levels, pause))
	for _, r := range regions(sound, duration, s.silence) {
		for _, c := range chooseCuts(pauses, r, longest) {
			chunk := call.Chunk{Path: filepath.Join(dir, s.file), Start: c.Start, End: c.End, Speaker: s.speaker, Sound: within(sound, c)}
			if c.Start > 0 || c.End < duration {
				if chunk.Path, err = p.extract(ctx, dir, s.file, c, len(chunks)); err != nil {
					return nil, err
				}
			}
			chunks = append(chunks, chunk)
		}
	}
	return chunks, nil
}

func (p *Preparer) extract(ctx context.Context, dir, file string, c call.Interval, n int) (string, error) {
	name := fmt.Sprintf("chunk-%03d-%s", n, file)
	_, err := p.run(ctx, "cut", dir, p.ffmpeg, slices.Concat([]string{"-nostdin", "-y", "-v", "error", "-ss", seconds(c.Start)}, input("ogg", file),
		[]string{"-t", seconds(c.End - c.Start), "-c", "copy", "-f", "ogg", name})...)
	if err != nil {
		return "", fmt.Errorf("cut chunk %d: %w", n, err)
	}
	return filepath.Join(dir, name), nil
}

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 3, 64) }

// regions returns what of a recording is sent: all but silences that are longer than that.
func regions(sound []call.Interval, duration, longestSilence float64) []call.Interval {
	var found []call.Interval
	for _, s := range sound {
		if last := len(found) - 1; last >= 0 && s.Start-found[last].End <= longestSilence {
			found[last].End = s.End
		} else {
			found = append(found, s)
		}
	}
	for i, r := range found {
		before, after := 0.0, duration
		if i > 0 {
			before = found[i-1].End
		}
		if i+1 < len(found) {
			after = found[i+1].Start
		}
		found[i] = call.Interval{Start: max(before, r.Start-edge), End: min(after, r.End+edge)}
	}
	if len(found) > 0 && found[0].Start <= longestSilence {
		found[0].Start = 0
	}
	if last := len(found) - 1; last >= 0 && duration-found[last].End <= longestSilence {
		found[last].End = duration
	}
	return found
}

// within returns the parts of intervals that are in another one.
func within(intervals []call.Interval, in call.Interval) []call.Interval {
	found := []call.Interval{}
	for _, i := range intervals {
		if cut := (call.Interval{Start: max(i.Start, in.Start), End: min(i.End, in.End)}); cut.Start < cut.End {
			found = append(found, cut)
		}
	}
	return found
}

// pausesBetween returns the midpoints of the pauses between words.
func pausesBetween(speech []call.Interval) []float64 {
	var middles []float64
	for i := 1; i < len(speech); i++ {
		middles = append(middles, (speech[i-1].End+speech[i].Start)/2)
	}
	return middles
}

// chooseCuts cuts a region into parts that are no longer than longest. Each ends at the last pause in the second half of the longest
// possible part, or at its end if there is no pause.
func chooseCuts(pauses []float64, region call.Interval, longest float64) []call.Interval {
	var parts []call.Interval
	at := region.Start
	for region.End-at > longest {
		next := at + longest
		for _, p := range pauses {
			if p > at+longest/2 && p <= at+longest {
				next = p
			}
		}
		parts = append(parts, call.Interval{Start: at, End: next})
		at = next
	}
	return append(parts, call.Interval{Start: at, End: region.End})
}
