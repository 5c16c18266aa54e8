package delivery

import (
	"context"
	"encoding/json"

	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// TestRequest requests a sample of an event.
type TestRequest struct {
	ID    string `path:"id"` // the endpoint
	Event string `json:"event"`
}

// TestResult is what was sent, and what the receiver responded.
type TestResult struct {
	Event     string          `json:"event"`
	EventID   string          `json:"event_id"`
	Payload   json.RawMessage `json:"payload"`
	Succeeded bool            `json:"succeeded"` // the receiver responded with 2xx
	LatencyMS int64           `json:"latency_ms"`
	Answer
}

// Test sends a sample of an event to an endpoint, once, also to a disabled one, and stores nothing. It fails with endpoint.NotFound.
func (s *Service) Test(ctx context.Context, req TestRequest) (TestResult, error) {
	to, err := s.Endpoints.Find(ctx, req.ID)
	if err == nil && to.DeletedAt != nil {
		err = endpoint.NotFound()
	}
	if err != nil {
		return TestResult{}, err
	}
	now := s.Clock.Now()
	d, who := sample(req.Event, now)
	body, err := render(to.Profile, d, who, links{s.PublicURL})
	if err != nil {
		return TestResult{}, err
	}
	answer, err := s.Sender.Send(ctx, Message{URL: to.URL, Secrets: to.Signing(now), Event: d.Event, EventID: d.EventID, Body: body})
	return TestResult{Event: d.Event, EventID: d.EventID, Payload: body, Succeeded: answer.ok(), LatencyMS: answer.Took.Milliseconds(), Answer: answer}, err
}
