package call

import (
	"context"
	"fmt"

	"github.com/convoflow/convoflow/libs/fault"
)

// tries is how often a question is asked until its answer can be used.
const tries = 2

// dialogue is how an analyst is asked.
type dialogue struct {
	ask    func(ctx context.Context, try int, q Question) ([]byte, error) // returns the raw answer
	reject func(ctx context.Context, try int, q Question)                 // is called for an answer that cannot be used
}

// analyse asks a question, and once more with the problem if the answer cannot be used.
func analyse(ctx context.Context, a Analyst, q Question, d dialogue) (in Insights, model string, err error) {
	for try := range tries {
		var answer []byte
		if answer, err = d.ask(ctx, try, q); err != nil {
			return Insights{}, "", fmt.Errorf("request insights: %w", err)
		}
		if in, model, err = a.Read(answer, q); err == nil {
			return in, model, nil
		}
		d.reject(ctx, try, q)
		if !fault.Retryable(err) {
			break // it refused
		}
		q.Problem = "it could not be used"
	}
	return Insights{}, "", err
}

// findInsights finds insights in the transcript. What claims to be proved by a quote that is not in the transcript is dropped.
func (p *Processor) findInsights(ctx context.Context, c Call, save saver) (in Insights, model string, err error) {
	step := func(try int, q Question) Step {
		return c.step(StepAnalyse, try, p.Analyst.Model(), q.Transcript, q.CallType, q.At.UTC(), q.Problem)
	}
	q := Question{Transcript: spoken(*c.Transcript, c.Speakers), CallType: c.Details.CallType, At: c.Details.RecordedAt}
	in, model, err = analyse(ctx, p.Analyst, q, dialogue{
		ask: func(ctx context.Context, try int, q Question) ([]byte, error) {
			return p.request(ctx, step(try, q), save, func(ctx context.Context, key string) (Answer, error) { return p.Analyst.Send(ctx, q, key) })
		},
		reject: func(ctx context.Context, try int, q Question) { p.drop(ctx, step(try, q), StepRejected) },
	})
	if err != nil {
		return Insights{}, "", err
	}
	in, dropped := verify(in, *c.Transcript)
	p.Observer.Dropped("claim", dropped)
	p.Observer.Dropped("value", in.Dropped)
	return in, model, nil
}
