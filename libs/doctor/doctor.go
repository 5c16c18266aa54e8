// Package doctor reports the state of what a process depends on: what is wrong, and what to do about it. It refuses to repair
// anything.
package doctor

import (
	"errors"
	"fmt"
	"io"

	"github.com/convoflow/convoflow/libs/clock"
)

// Finding is the result of one check.
type Finding struct {
	Level Level
	Part  string // what was checked, such as database
	Says  string // what was found; no secrets, no personal data
	Do    string // what to do about it; empty if it is well
}

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Warning Level = "warning" // it works, but not as it should
	Problem Level = "PROBLEM" // something does not work
)

// Report is the findings, in the order of the checks.
type Report struct {
	Findings []Finding
	Clock    clock.Clock // of this machine; the checks compare it with those of others
}

// OK adds what is well.
func (r *Report) OK(part, format string, args ...any) {
	r.add(OK, part, "", format, args...)
}

// Warn adds what works, but not as it should.
func (r *Report) Warn(part, do, format string, args ...any) {
	r.add(Warning, part, do, format, args...)
}

// Fail adds what does not work.
func (r *Report) Fail(part, do, format string, args ...any) {
	r.add(Problem, part, do, format, args...)
}

func (r *Report) add(level Level, part, do, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{level, part, fmt.Sprintf(format, args...), do})
}

// ErrProblems means that a report has a Problem.
var ErrProblems = errors.New("something does not work, see above")

// Write writes a report as lines. It returns ErrProblems if there is a Problem.
func (r *Report) Write(w io.Writer) error {
	problems := 0
	for _, f := range r.Findings {
		text := fmt.Sprintf("%-8s %-18s %s\n", f.Level, f.Part, f.Says)
		if f.Do != "" {
			text += fmt.Sprintf("%28s→ %s\n", "", f.Do)
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		if f.Level == Problem {
			problems++
		}
	}
	if problems > 0 {
		return ErrProblems
	}
	return nil
}
