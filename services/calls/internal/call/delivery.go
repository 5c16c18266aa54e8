package call

import (
	"context"
	"strings"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
)

// OnDelivered notes that a webhook about a call was delivered. An event about a lead or follow-up names its call too, and is not
// about it.
func (s *Service) OnDelivered(ctx context.Context, e event.Received[events.Delivery]) error {
	d := e.Data
	if d.CallID == nil || !strings.HasPrefix(d.EventType, "call.") && !strings.HasPrefix(d.EventType, "transcription.") {
		return nil
	}
	_, err := s.Calls.Change(ctx, *d.CallID, func(c *Call) ([]event.Event, error) {
		if !c.PabblySent {
			c.PabblySent = true
			c.touch(s.Clock.Now())
		}
		return nil, nil // an event would be a webhook again
	})
	if fault.Is(err, fault.NotFound) {
		return nil // it was deleted
	}
	return err
}
