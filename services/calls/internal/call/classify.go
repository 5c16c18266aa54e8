package call

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/fault"
)

// retryClassify is when to ask again after the AI provider has failed.
const retryClassify = 10 * time.Second

// ClassifyRequest is a text about a conversation, such as the summary that a person has written.
type ClassifyRequest struct {
	Text string `json:"text"`
}

// Verdict is what the language model finds about the intent of a customer. Nil means unknown.
type Verdict struct {
	IntentCategory   *string    `json:"intent_category"`
	IntentConfidence *float64   `json:"intent_confidence"` // 0 to 1
	InterestLevel    *string    `json:"interest_level"`    // high, medium, low
	Objections       []string   `json:"objections"`
	CallbackTime     *time.Time `json:"callback_time"`
}

// Classify asks the language model what a customer intends. It stores nothing. It fails with Unavailable.
func (s *Service) Classify(ctx context.Context, req ClassifyRequest) (Verdict, error) {
	in, _, err := analyse(ctx, s.Analyst, Question{Transcript: req.Text, CallType: defaultType, At: s.Clock.Now()}, dialogue{
		ask: func(ctx context.Context, _ int, q Question) ([]byte, error) {
			answer, err := s.Analyst.Send(ctx, q, "")
			return answer.Body, err
		},
		reject: func(context.Context, int, Question) {},
	})
	if err != nil {
		return Verdict{}, fault.Wrap(err, fault.Unavailable, "service_unavailable", "A part of the platform does not answer right now, try again").After(retryClassify)
	}
	return Verdict{
		IntentCategory: in.IntentCategory, IntentConfidence: in.IntentConfidence, InterestLevel: in.InterestLevel, Objections: append([]string{}, in.Objections...),
		CallbackTime: in.CallbackTime,
	}, nil
}
