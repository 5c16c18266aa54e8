// Package report writes the results of benchmarks as a table and as files.
package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Measure is one side of a round.
type Measure struct {
	Value  float64 `json:"value"`           // in the unit of the benchmark
	CPU    float64 `json:"cpu_us"`          // CPU time of the process under test per request, µs
	Parts  []Part  `json:"parts,omitempty"` // CPU by process, and last that of the load, which is not part of CPU
	Core   float64 `json:"core"`            // busy share of its core, or of all that it may use, 0 to 1
	Others float64 `json:"others"`          // CPU time of unrelated processes, in cores
}

// Part is the CPU time of one of several processes.
type Part struct {
	Name string  `json:"name"`
	CPU  float64 `json:"cpu_us"` // per request, µs
}

// maxOthers is how much of a core other processes may use: kernel threads, and the rounding of ticks of 10 ms.
const maxOthers = 0.1

// disturbed reports whether other processes used the machine meanwhile.
func (m Measure) disturbed() bool { return m.Others > maxOthers }

// Round is a measurement of both sides, one right after the other.
type Round struct {
	Ours   Measure  `json:"ours"`
	Peer   Measure  `json:"peer"`
	Direct *Measure `json:"direct,omitempty"` // without either of them, to be subtracted
	Ratio  float64  `json:"ratio"`
}

// Result is a benchmark with all its rounds.
type Result struct {
	Name   string   `json:"name"`
	Peer   string   `json:"peer"`
	Unit   string   `json:"unit"`
	Floor  float64  `json:"floor"`
	Goal   float64  `json:"goal"` // less than Floor if less is better
	Rounds []Round  `json:"rounds"`
	Ratio  float64  `json:"ratio"` // median of the rounds
	Notes  []string `json:"notes"`
}

// The verdicts on a result.
const (
	BelowFloor = "below floor"
	Floor      = "floor"
	Goal       = "goal"
)

// disturbed returns the number of disturbed rounds.
func (r Result) disturbed() (n int) {
	for _, round := range r.Rounds {
		if round.Ours.disturbed() || round.Peer.disturbed() || round.Direct != nil && round.Direct.disturbed() {
			n++
		}
	}
	return n
}

// Verdict returns what the result reaches.
func (r Result) Verdict() string {
	reaches := func(limit float64) bool {
		if r.Goal < r.Floor {
			return r.Ratio <= limit
		}
		return r.Ratio >= limit
	}
	switch {
	case reaches(r.Goal):
		return Goal
	case reaches(r.Floor):
		return Floor
	default:
		return BelowFloor
	}
}

// Median returns the middle value, or the lower one of two. values must not be empty.
func Median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// of returns the median of a value of each round.
func (r Result) of(what func(Round) float64) float64 {
	var values []float64
	for _, round := range r.Rounds {
		values = append(values, what(round))
	}
	return Median(values)
}

// Report is a run of the benchmarks.
type Report struct {
	At       time.Time         `json:"at"`
	Machine  map[string]string `json:"machine"`
	Settings []string          `json:"settings,omitempty"` // that differ from the defaults
	Results  []Result          `json:"results"`
}

// Table writes the results as a Markdown table, then their notes.
func (r Report) Table(w io.Writer) {
	rows := [][]string{{"benchmark", "Convoflow", "peer", "ratio", "rounds", "CPU µs", "core busy", "floor", "goal", "verdict"}}
	for _, result := range r.Results {
		rows = append(rows, result.row())
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for i, row := range rows {
		line(w, row, widths, " ")
		if i == 0 {
			line(w, make([]string, len(row)), widths, "-")
		}
	}
	_, _ = fmt.Fprintln(w)
	if len(r.Settings) > 0 {
		_, _ = fmt.Fprintf(w, "- not with the default settings, but with %s\n", strings.Join(r.Settings, " "))
	}
	for _, result := range r.Results {
		if len(result.Rounds) > 0 && len(result.Rounds[0].Ours.Parts) > 0 {
			_, _ = fmt.Fprintf(w, "- %s: CPU µs per request: %s; %s: %s\n", result.Name,
				result.parts(func(x Round) Measure { return x.Ours }), result.Peer, result.parts(func(x Round) Measure { return x.Peer }))
		}
		for _, note := range result.Notes {
			_, _ = fmt.Fprintf(w, "- %s: %s\n", result.Name, note)
		}
		if n := result.disturbed(); n > 0 {
			_, _ = fmt.Fprintf(w, "- %s: in %d of %d rounds other processes used the machine: measure again on an idle machine\n",
				result.Name, n, len(result.Rounds))
		}
	}
}

// parts lists the median CPU time of each process of a side.
func (r Result) parts(side func(Round) Measure) string {
	var list []string
	for i, part := range side(r.Rounds[0]).Parts {
		list = append(list, part.Name+" "+Number(r.of(func(x Round) float64 { return side(x).Parts[i].CPU })))
	}
	return strings.Join(list, ", ")
}

func line(w io.Writer, row []string, widths []int, fill string) {
	for i, cell := range row {
		_, _ = fmt.Fprintf(w, "|%s%s%s", fill, cell, strings.Repeat(fill, widths[i]-utf8.RuneCountInString(cell)+1))
	}
	_, _ = fmt.Fprintln(w, "|")
}

func (r Result) row() []string {
	var ratios []float64
	for _, round := range r.Rounds {
		ratios = append(ratios, round.Ratio)
	}
	verdict := r.Verdict()
	if 2*r.disturbed() >= len(r.Rounds) {
		verdict += ", disturbed"
	}
	both := func(what func(Measure) float64, format func(float64) string) string {
		ours, peer := r.of(func(x Round) float64 { return what(x.Ours) }), r.of(func(x Round) float64 { return what(x.Peer) })
		return format(ours) + " ÷ " + format(peer)
	}
	return []string{
		r.Name,
		Number(r.of(func(x Round) float64 { return x.Ours.Value })) + " " + r.Unit,
		r.Peer + " " + Number(r.of(func(x Round) float64 { return x.Peer.Value })),
		ratio(r.Ratio),
		ratio(slices.Min(ratios)) + " to " + ratio(slices.Max(ratios)),
		both(func(m Measure) float64 { return m.CPU }, Number),
		both(func(m Measure) float64 { return m.Core }, func(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }),
		ratio(r.Floor), ratio(r.Goal),
		verdict,
	}
}

// ratio formats a ratio with two decimals, or three if it is small.
func ratio(x float64) string {
	if x < 0.1 {
		return fmt.Sprintf("%.3f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// Number formats a number with at least three significant digits and commas between thousands.
func Number(x float64) string {
	digits := 0
	if x != 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(math.Abs(x)))))
	}
	whole, fraction, _ := strings.Cut(fmt.Sprintf("%.*f", digits, x), ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return whole
}

// Write stores the report in dir, as a new file and as latest.json.
func (r Report) Write(dir string) (file string, err error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode the results: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the directory of results: %w", err)
	}
	file = filepath.Join(dir, "latest.json")
	for _, name := range []string{filepath.Join(dir, r.At.Format("2006-01-02T150405Z")+".json"), file} {
		if err := os.WriteFile(name, append(text, '\n'), 0o644); err != nil { //nolint:gosec // nothing in it is secret
			return "", fmt.Errorf("write the results: %w", err)
		}
	}
	return file, nil
}
