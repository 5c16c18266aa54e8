package delivery

import (
	"context"

	"github.com/convoflow/convoflow/libs/event"
)

// Sent is the body of an event as it was sent to an endpoint.
type Sent struct {
	EndpointID string
	Event      string
	Body       []byte
}

// Archive reads what was sent.
type Archive interface {
	// ListSent reads the bodies of an event that have not been erased.
	ListSent(ctx context.Context, eventID string) ([]Sent, error)
}

// VerifyRequest is the signature that somebody received with an event.
type VerifyRequest struct {
	EventID   string `path:"event_id"`
	Signature string `query:"signature"` // of the header X-Pabbly-Signature
}

// Verified says whether this platform signed and sent an event.
type Verified struct {
	EventID string  `json:"event_id"`
	Valid   bool    `json:"valid"`
	Event   *string `json:"event"` // the type; null unless valid
}

// Verify is for receivers that cannot compute a signature. Anyone may call it: the signature proves that the caller has received the event,
// and without one there is the same response for an event that exists and one that does not.
func (s *Service) Verify(ctx context.Context, req VerifyRequest) (Verified, error) {
	result := Verified{EventID: req.EventID}
	if !event.ValidID(req.EventID) {
		return result, nil
	}
	sent, err := s.Archive.ListSent(ctx, req.EventID)
	if err != nil {
		return result, err
	}
	for _, one := range sent {
		to, err := s.Endpoints.Find(ctx, one.EndpointID)
		if err != nil {
			return result, err
		}
		if to.Signed(one.Body, req.Signature) {
			result.Valid, result.Event = true, &one.Event
		}
	}
	return result, nil
}
