package delivery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

const (
	schemaVersion = 1
	maxBody       = 20_000 // bytes, as the webhook contract promises
)

// cuts are the longest texts, in bytes, of each try to stay under maxBody. The summary is what people read, so it is cut
// last. The last line fits whatever is in the texts, also when JSON writes six bytes for one.
var cuts = []cut{
	{text: 1 << 30, summary: 1 << 30},
	{text: 4000, summary: 1 << 30},
	{text: 1000, summary: 1 << 30},
	{text: 250, summary: 1 << 30},
	{text: 250, summary: 8000},
	{text: 100, summary: 2000},
	{text: 40, summary: 400},
}

type cut struct{ text, summary int }

// people is who an event is about. Either is nil when it is not known.
type people struct {
	agent  *Agent
	client *Client
}

// links makes the addresses in payloads.
type links struct{ public string }

func (l links) to(kind, id string) string {
	return strings.TrimRight(l.public, "/") + "/" + kind + "/" + url.PathEscape(id)
}

// facts are the fields of a payload by key. Every key of an event type is always there.
type facts map[string]any

// render makes the exact bytes that are signed and sent: canonical JSON, that is UTF-8 with sorted keys and no spaces.
// Only what JSON demands is escaped (quotes, backslashes, control characters), and U+2028 and U+2029; <, > and & are not.
func render(p endpoint.Profile, d Delivery, who people, l links) ([]byte, error) {
	for _, c := range cuts {
		f, err := c.facts(d, who, l)
		if err != nil {
			return nil, err
		}
		body, err := canonical(f.as(p, d))
		if err != nil {
			return nil, fmt.Errorf("encode the payload: %w", err)
		}
		if len(body) <= maxBody {
			return body, nil
		}
	}
	return nil, fmt.Errorf("the payload of delivery %s does not fit into %d bytes", d.ID, maxBody)
}

func canonical(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b) // sorts the keys of maps
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// as puts the facts into the shape of a profile.
func (f facts) as(p endpoint.Profile, d Delivery) map[string]any {
	f["event_id"], f["schema_version"], f["is_test"] = d.EventID, schemaVersion, false
	if p == endpoint.Standard {
		return map[string]any{"type": d.Event, "timestamp": stamp(&d.EventTime), "data": f}
	}
	f["event"], f["timestamp"] = d.Event, stamp(&d.EventTime)
	return f
}

func (c cut) facts(d Delivery, who people, l links) (facts, error) {
	switch d.Event {
	case events.TranscriptionCompleted.Name:
		var call events.Call
		if err := json.Unmarshal(d.Data, &call); err != nil {
			return nil, fmt.Errorf("read the call of delivery %s: %w", d.ID, err)
		}
		return c.call(call, who, l), nil
	case events.FollowUpScheduled.Name:
		var f events.FollowUp
		if err := json.Unmarshal(d.Data, &f); err != nil {
			return nil, fmt.Errorf("read the follow-up of delivery %s: %w", d.ID, err)
		}
		return c.followUp(f, who, l), nil
	default:
		return nil, fmt.Errorf("no payload is known for event %s", d.Event)
	}
}

func (c cut) call(x events.Call, who people, l links) facts {
	f := facts{
		"call_id": x.CallID, "client_id": x.ClientID, "lead_id": x.LeadID, "lead_name": nil, "lead_phone": nil,
		"call_type": x.CallType, "duration_seconds": x.DurationSeconds, "language": x.Language,
		"summary":      clip(x.Summary, c.summary),
		"action_items": c.list(x.ActionItems), "action_items_text": c.lines(x.ActionItems), "action_items_count": len(x.ActionItems),
		"sentiment":  x.Sentiment,
		"key_topics": c.list(x.KeyTopics), "key_topics_text": c.lines(x.KeyTopics),
		"next_step":       clip(x.NextStep, c.text),
		"intent_category": x.IntentCategory, "intent_confidence": x.IntentConfidence, "interest_level": x.InterestLevel,
		"objections_text": c.lines(x.Objections), "callback_time": stamp(x.CallbackTime),
		"outcome": x.Outcome, "recorded_at": stamp(x.RecordedAt), "call_url": l.to("calls", x.CallID),
	}
	maps.Copy(f, c.who(x.AgentID, who))
	f["client_email"] = nil
	if who.client != nil {
		f["client_email"] = clip(who.client.Email, c.text)
	}
	return f
}

func (c cut) followUp(x events.FollowUp, who people, l links) facts {
	f := facts{
		"followup_id": x.FollowUpID, "call_id": x.CallID, "client_id": x.ClientID, "lead_id": x.LeadID,
		"due_date": stamp(&x.DueDate), "task": clip(x.Task, c.text), "notes": clip(x.Notes, c.text),
		"source": x.Source, "followup_url": l.to("followups", x.FollowUpID),
	}
	maps.Copy(f, c.who(x.AgentID, who))
	return f
}

// who is the fields about people that every event has.
func (c cut) who(agentID string, who people) facts {
	f := facts{"agent_id": agentID, "agent_name": nil, "agent_email": nil, "client_name": nil, "client_phone": nil}
	if who.agent != nil {
		f["agent_name"], f["agent_email"] = clip(&who.agent.Name, c.text), clip(&who.agent.Email, c.text)
	}
	if who.client != nil {
		f["client_name"], f["client_phone"] = clip(who.client.Name, c.text), clip(who.client.Phone, c.text)
	}
	return f
}

// list keeps the items from the front that fit into the cut together; the one that does not fit whole is the last.
func (c cut) list(items []string) []string {
	kept, room := []string{}, c.text
	for _, item := range items {
		if room <= 0 {
			break
		}
		kept = append(kept, *clip(&item, room))
		room -= len(item)
	}
	return kept
}

func (c cut) lines(items []string) string { return strings.Join(c.list(items), "\n") }

const ellipsis = "…"

// clip cuts a text to at most that many bytes, never inside a character, and marks that it did.
func clip(text *string, most int) *string {
	if text == nil || len(*text) <= most {
		return text
	}
	end := max(0, most-len(ellipsis))
	for end > 0 && !utf8.RuneStart((*text)[end]) {
		end--
	}
	short := (*text)[:end] + ellipsis
	return &short
}

// stamp is a time as RFC 3339 in UTC.
func stamp(t *time.Time) *string {
	if t == nil {
		return nil
	}
	s := t.UTC().Format(time.RFC3339Nano)
	return &s
}
