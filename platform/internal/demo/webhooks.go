package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// received is a webhook as returned by the platform's inbox.
type received struct {
	Event      string
	EventID    string `json:"event_id"`
	Body       string
	Headers    map[string]string
	ReceivedAt time.Time `json:"received_at"`
	Signatures struct {
		Pabbly   bool `json:"x_pabbly_signature"`
		Standard bool `json:"webhook_signature"`
	}
}

// expected returns the events that the demo causes.
func (d *demo) expected() []string {
	if d.intent == "" {
		return []string{"transcription.completed", "followup.scheduled"}
	}
	return []string{"transcription.completed", "lead." + d.intent, "followup.scheduled"}
}

// isAbout reports whether a payload is about the demo's call, or its lead: events of leads name no call.
func (d *demo) isAbout(event string, payload map[string]any) bool {
	if strings.HasPrefix(event, "lead.") {
		return payload["lead_id"] == d.lead.ID
	}
	return payload["call_id"] == d.callID
}

// webhooks waits until all events have been received. If they are sent to a real Pabbly, it can only check the platform's record
// of deliveries, which requires an admin.
func (d *demo) webhooks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	find, err := d.receiver(ctx)
	if err != nil || find == nil {
		return err
	}
	for _, event := range d.expected() {
		for {
			found, err := find(ctx, event)
			if err != nil {
				return err
			}
			if found {
				break
			}
			if err := pause(ctx); err != nil {
				return fmt.Errorf("%s has not been received: %w", event, err)
			}
		}
	}
	return nil
}

func (d *demo) receiver(ctx context.Context) (func(context.Context, string) (bool, error), error) {
	var missing *apiError
	err := d.api.get(ctx, "/inbox/deliveries", &[]received{})
	switch {
	case err == nil:
		return d.inInbox, nil
	case !errors.As(err, &missing):
		return nil, err
	case d.admin:
		d.say("  Webhooks go to your own receiver; this is the platform's record of them.\n")
		return d.inRecord, nil
	default:
		d.say("  Webhooks go to your own receiver: look there. (An admin sees them at GET /webhooks/deliveries.)\n")
		return nil, nil
	}
}

func (d *demo) inInbox(ctx context.Context, event string) (bool, error) {
	var all []received
	if err := d.api.get(ctx, "/inbox/deliveries", &all); err != nil {
		return false, err
	}
	for _, r := range all {
		var body map[string]any
		if err := json.Unmarshal([]byte(r.Body), &body); err != nil || r.Event != event || !d.isAbout(event, body) {
			continue
		}
		if !r.Signatures.Pabbly || !r.Signatures.Standard {
			return false, fmt.Errorf("the signatures of %s are invalid", event)
		}
		if !strings.Contains(r.Headers["Traceparent"], d.traceID) {
			return false, fmt.Errorf("%s belongs to another trace: %s", event, r.Headers["Traceparent"])
		}
		d.say("\n  %s  event_id %s\n", event, r.EventID)
		d.say("    X-Pabbly-Signature %s…  valid\n    webhook-signature  %s…  valid\n    traceparent        %s\n", r.Headers["X-Pabbly-Signature"][:16], r.Headers["Webhook-Signature"][:16], r.Headers["Traceparent"])
		for _, key := range []string{"agent_name", "lead_name", "lead_phone", "name", "phone", "source_campaign", "intent_category", "summary", "action_items_text", "sentiment", "next_step", "due_date", "task"} {
			if value, ok := body[key].(string); ok && value != "" {
				d.say("    %-18s %s\n", key, strings.ReplaceAll(value, "\n", " · "))
			}
		}
		return true, nil
	}
	return false, nil
}

func (d *demo) inRecord(ctx context.Context, event string) (bool, error) {
	var deliveries []struct {
		Status  string
		EventID string `json:"event_id"`
	}
	if err := d.api.get(ctx, "/webhooks/deliveries?call_id="+d.callID+"&event="+event, &deliveries); err != nil {
		return false, err
	}
	if len(deliveries) == 0 || deliveries[0].Status != "delivered" {
		return false, nil
	}
	d.say("  %s  event_id %s  delivered\n", event, deliveries[0].EventID)
	return true, nil
}
