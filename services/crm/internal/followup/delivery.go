package followup

import (
	"context"
	"strings"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/crm/internal/timeline"
)

// aboutFollowUps is the prefix of the types of events about follow-ups.
const aboutFollowUps = "followup."

// OnDeliveryEnded writes a delivery to the timeline of its client and lead. A delivered event about a follow-up is also recorded in
// the follow-up.
func (s *Service) OnDeliveryEnded(ctx context.Context, e event.Received[events.Delivery]) error {
	d := e.Data
	client, lead, err := s.People.Find(ctx, d.ClientID, d.LeadID)
	if err != nil || (client == nil) != (d.ClientID == nil) || (lead == nil) != (d.LeadID == nil) {
		return err // of somebody who was deleted
	}
	d.ClientID = client
	if d.ClientID != nil || d.LeadID != nil || d.CallID != nil {
		err := s.Timeline.Upsert(ctx, timeline.Item{
			ID: d.DeliveryID, Kind: timeline.Delivery, At: d.EndedAt, Version: e.Time.UnixMicro(), ClientID: d.ClientID, LeadID: d.LeadID,
			CallID: d.CallID, FollowUpID: d.FollowUpID, Event: &d.EventType, Status: &d.Status, Reason: d.Reason,
		})
		if err != nil {
			return err
		}
	}
	if e.Type != events.WebhookDelivered.Name || d.FollowUpID == nil || !strings.HasPrefix(d.EventType, aboutFollowUps) {
		return nil
	}
	_, err = s.FollowUps.Change(ctx, *d.FollowUpID, func(x *FollowUp) ([]event.Event, error) {
		x.trigger(s.Clock.Now())
		return nil, nil
	})
	if fault.Is(err, fault.NotFound) {
		return nil // it was deleted
	}
	return err
}
