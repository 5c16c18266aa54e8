package call

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// ErrNoAnswer means that it is not known whether a provider has done the work of a request.
var ErrNoAnswer = errors.New("no answer")

// Step is one request to a provider: for a part of a recording, or a question about its transcript.
type Step struct {
	CallID  string
	AgentID string
	Run     int
	Epoch   int64 // of the worker's lease
	Name    string
	Part    int
	Input   string // SHA-256 of what the request depends on, hex
	Model   string
}

// step returns a step of a call. input is what the request depends on.
func (c *Call) step(name string, part int, model string, input ...any) Step {
	sum := sha256.Sum256([]byte(fmt.Sprintf("%q", append(input, model))))
	return Step{
		CallID: c.ID, AgentID: c.AgentID, Run: c.Run, Epoch: c.Lease.Epoch, Name: name, Part: part, Input: hex.EncodeToString(sum[:]), Model: model,
	}
}

// key identifies the request at a provider, also when it is repeated.
func (s Step) key() string {
	return fmt.Sprintf("%s-%d-%s-%d-%s", s.CallID, s.Run, s.Name, s.Part, s.Input[:16])
}

// StepState is the state of a step.
type StepState string

// The states of a step that has no answer to be used.
const (
	StepFailed   StepState = "failed"   // the provider refused the request
	StepRejected StepState = "rejected" // the answer could not be used
)

// Steps records the requests to providers, so that no answer is paid for twice. Nothing of it may be called inside a transaction.
type Steps interface {
	// Begin commits that a request is about to be sent. If an equal one was answered before, it returns that answer, and nothing may be
	// sent. repeated reports that an equal one was sent before whose answer is not known. It fails with lease.ErrSuperseded if the
	// worker has lost its lease.
	Begin(ctx context.Context, s Step) (answer []byte, repeated bool, err error)
	// End stores the answer and what it cost.
	End(ctx context.Context, s Step, a Answer) error
	// Drop records that the step has no answer to be used, so that the next Begin requests another one.
	Drop(ctx context.Context, s Step, state StepState) error
	// Forget removes the answers of ended calls that were uploaded before a time and are not on legal hold.
	Forget(ctx context.Context, before time.Time) error
	// StorePeaks stores the peaks of a call's recording.
	StorePeaks(ctx context.Context, callID string, w Peaks) error
}

// Observer counts what happens in the pipeline. It is safe for concurrent use.
type Observer interface {
	// Repeated counts a request that had to be sent again because its answer was lost.
	Repeated(step string)
	// Dropped counts claims of a language model whose quotes are not in the transcript, or phrases that nobody said.
	Dropped(what string, n int)
	// Attempted records that a worker's attempt at a call has ended.
	Attempted(ctx context.Context, a Attempt)
}

// Attempt is one attempt at a call.
type Attempt struct {
	Call Call // as it is afterwards
	Took time.Duration
	Err  error // why it failed
}

// Backlog is the calls of a status that have not ended.
type Backlog struct {
	Status Status
	Count  int64
	Oldest time.Duration // since the upload of the oldest, or the last progress of one that is transcribed anew
}

// request returns the answer to a step: the stored one, or that of send.
func (p *Processor) request(ctx context.Context, s Step, save saver, send func(ctx context.Context, key string) (Answer, error)) ([]byte, error) {
	stored, repeated, err := p.Steps.Begin(ctx, s)
	if err != nil || stored != nil {
		return stored, err
	}
	if repeated {
		p.Observer.Repeated(s.Name)
		p.Log.WarnContext(ctx, "a request is repeated because its answer was lost", "call_id", s.CallID, "step", s.Name, "part", s.Part)
	}
	answer, err := send(ctx, s.key())
	if err != nil {
		if !errors.Is(err, ErrNoAnswer) && ctx.Err() == nil {
			p.drop(ctx, s, StepFailed)
		}
		return nil, err
	}
	if err := save(func(ctx context.Context) error { return p.Steps.End(ctx, s, answer) }); err != nil {
		return nil, fmt.Errorf("store the answer of step %s: %w", s.Name, err)
	}
	return answer.Body, nil
}

// drop is of no consequence if it fails: the next request is then counted as repeated, or reads a useless answer again.
func (p *Processor) drop(ctx context.Context, s Step, state StepState) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if err := p.Steps.Drop(ctx, s, state); err != nil {
		p.Log.WarnContext(ctx, "a step without an answer was not recorded", "call_id", s.CallID, "step", s.Name, "error", err)
	}
}
