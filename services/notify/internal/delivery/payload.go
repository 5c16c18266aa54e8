package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
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

// limits are the maximum lengths of texts, in bytes, in each try to stay under maxBody. The summary is what people read, so it
// is shortened last. The last line always fits, even if JSON escapes every byte as six.
var limits = []limit{
	{text: 1 << 30, summary: 1 << 30},
	{text: 4000, summary: 1 << 30},
	{text: 1000, summary: 1 << 30},
	{text: 250, summary: 1 << 30},
	{text: 250, summary: 8000},
	{text: 100, summary: 2000},
	{text: 40, summary: 400},
}

// limit is the maximum lengths of texts in bytes. The mark of a cut text is added to them.
type limit struct{ text, summary int }

// links builds the URLs in payloads.
type links struct{ public string }

func (l links) to(kind, id string) string {
	return strings.TrimRight(l.public, "/") + "/" + kind + "/" + url.PathEscape(id)
}

// facts are the fields of a payload by key. An event type always has all its keys.
type facts map[string]any

// errPayload is the cause of every error of a payload. It is permanent: the data of an event never changes.
var errPayload = errors.New("the payload cannot be made")

// render makes the exact bytes that are signed and sent: canonical JSON, that is UTF-8 with sorted keys and no spaces.
// Only what JSON requires is escaped (quotes, backslashes, control characters), and U+2028 and U+2029; <, > and & are not.
func render(p endpoint.Profile, d Delivery, who people, l links) ([]byte, error) {
	for _, m := range limits {
		f, err := m.facts(d, who, l)
		if err != nil {
			return nil, err
		}
		body, err := canonical(f.inProfile(p, d))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPayload, err)
		}
		if len(body) <= maxBody {
			return body, nil
		}
	}
	return nil, fmt.Errorf("%w: delivery %s does not fit into %d bytes", errPayload, d.ID, maxBody)
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

// inProfile returns the facts in the shape of a profile.
func (f facts) inProfile(p endpoint.Profile, d Delivery) map[string]any {
	f["event_id"], f["schema_version"], f["is_test"] = d.EventID, schemaVersion, d.IsTest
	at := rfc3339(&d.EventTime)
	switch p {
	case endpoint.Standard:
		return map[string]any{"type": d.Event, "timestamp": at, "data": f}
	case endpoint.PabblyNested:
		return map[string]any{"event": d.Event, "timestamp": at, "data": f}
	default:
		f["event"], f["timestamp"] = d.Event, at
		return f
	}
}

func (m limit) facts(d Delivery, who people, l links) (facts, error) {
	switch about, _, _ := strings.Cut(d.Event, "."); {
	case d.Event == events.TranscriptionCompleted.Name:
		call, err := read[events.Call](d)
		return m.completed(call, who, l), err
	case d.Event == events.TranscriptionFailed.Name:
		call, err := read[events.Call](d)
		return m.failed(call, who, l), err
	case about == "followup":
		followUp, err := read[events.FollowUp](d)
		return m.followUp(followUp, who, l), err
	case about == "lead":
		lead, err := read[events.Lead](d)
		return m.lead(lead, who, l), err
	case d.Event == events.EndpointDisabled.Name:
		disabled, err := read[events.Endpoint](d)
		return m.disabled(disabled), err
	default:
		return nil, fmt.Errorf("%w: event %s has none", errPayload, d.Event)
	}
}

// read returns the data of a delivery's event.
func read[T any](d Delivery) (data T, err error) {
	if err := json.Unmarshal(d.Data, &data); err != nil {
		return data, fmt.Errorf("%w: read the %s of delivery %s: %w", errPayload, d.Event, d.ID, err)
	}
	return data, nil
}

func (m limit) completed(x events.Call, who people, l links) facts {
	f, url := m.call(x, who, l), l.to("calls", x.CallID)
	maps.Copy(f, facts{
		"language": x.Language, "summary": m.cut(x.Summary, m.summary, url),
		"action_items": m.list(x.ActionItems), "action_items_text": m.lines(x.ActionItems, url), "action_items_count": len(x.ActionItems),
		"sentiment":  x.Sentiment,
		"key_topics": m.list(x.KeyTopics), "key_topics_text": m.lines(x.KeyTopics, url),
		"next_step":       m.cut(x.NextStep, m.text, url),
		"intent_category": x.IntentCategory, "intent_confidence": x.IntentConfidence, "interest_level": x.InterestLevel,
		"objections_text": m.lines(x.Objections, url), "callback_time": rfc3339(x.CallbackTime), "outcome": x.Outcome,
	})
	return f
}

func (m limit) failed(x events.Call, who people, l links) facts {
	f := m.call(x, who, l)
	f["error_code"], f["retryable"], f["attempts"] = x.ErrorCode, x.Retryable, x.Attempts
	return f
}

// call returns the fields that every event of a call has.
func (m limit) call(x events.Call, who people, l links) facts {
	f := facts{
		"call_id": x.CallID, "client_id": x.ClientID, "client_email": nil, "lead_id": x.LeadID, "lead_name": nil, "lead_phone": nil,
		"call_type": x.CallType, "duration_seconds": whole(x.DurationSeconds), "recorded_at": rfc3339(x.RecordedAt), "call_url": l.to("calls", x.CallID),
	}
	maps.Copy(f, m.who(x.AgentID, who))
	if who.lead != nil {
		f["lead_name"], f["lead_phone"] = clip(who.lead.Name, m.text), clip(who.lead.Phone, m.text)
	}
	if who.client != nil {
		f["client_email"] = clip(who.client.Email, m.text)
	}
	return f
}

func (m limit) followUp(x events.FollowUp, who people, l links) facts {
	url := l.to("followups", x.FollowUpID)
	f := facts{
		"followup_id": x.FollowUpID, "call_id": x.CallID, "client_id": x.ClientID, "lead_id": x.LeadID,
		"due_date": rfc3339(x.DueDate), "task": m.cut(x.Task, m.text, url), "notes": m.cut(x.Notes, m.text, url),
		"source": x.Source, "followup_url": url,
	}
	maps.Copy(f, m.who(x.AgentID, who))
	return f
}

// lead has no clients, and no agent while nobody works on it.
func (m limit) lead(x events.Lead, who people, l links) facts {
	f := facts{
		"lead_id": x.LeadID, "name": clip(&x.Name, m.text), "phone": clip(numberOf(x), m.text), "email": clip(x.Email, m.text),
		"source_campaign": clip(x.SourceCampaign, m.text), "course_interested_in": clip(x.CourseInterestedIn, m.text),
		"intent_category": x.IntentCategory, "callback_time": rfc3339(x.CallbackScheduledAt),
		"payment_link_url": clip(x.PaymentLinkURL, m.text), "objections_text": m.cut(x.Objections, m.text, l.to("leads", x.LeadID)),
		"agent_name": nil, "agent_email": nil, "attempt_count": x.FollowUpCount,
	}
	if who.agent != nil {
		f["agent_name"], f["agent_email"] = clip(&who.agent.Name, m.text), clip(&who.agent.Email, m.text)
	}
	return f
}

func (m limit) disabled(x events.Endpoint) facts {
	return facts{
		"webhook_id": x.EndpointID, "description": clip(&x.Description, m.text), "reason": x.Reason,
		"failing_since": rfc3339(x.FailingSince), "disabled_at": rfc3339(&x.DisabledAt),
	}
}

// numberOf returns the number of a lead: E.164, or as it came if it is no phone number.
func numberOf(x events.Lead) *string {
	if x.Phone != nil {
		return x.Phone
	}
	return x.RawPhone
}

// who returns the fields about the agent and client that every event has.
func (m limit) who(agentID string, who people) facts {
	f := facts{"agent_id": agentID, "agent_name": nil, "agent_email": nil, "client_name": nil, "client_phone": nil}
	if who.agent != nil {
		f["agent_name"], f["agent_email"] = clip(&who.agent.Name, m.text), clip(&who.agent.Email, m.text)
	}
	if who.client != nil {
		f["client_id"] = who.client.ID // of the one that the event's was merged into
		f["client_name"], f["client_phone"] = clip(who.client.Name, m.text), clip(who.client.Phone, m.text)
	}
	return f
}

// list returns the first items that fit into the limit together; the last of them may be truncated.
func (m limit) list(items []string) []string {
	listed, room := []string{}, m.text
	for _, item := range items {
		if room <= 0 {
			break
		}
		listed = append(listed, *clip(&item, room))
		room -= len(item) + 1 // the line break
	}
	return listed
}

// lines returns the items as one text. If not all of them fit, it ends with the link to the whole.
func (m limit) lines(items []string, url string) string {
	all, listed := strings.Join(items, "\n"), strings.Join(m.list(items), "\n")
	if listed == all {
		return all
	}
	return strings.TrimSuffix(listed, ellipsis) + ellipsis + " " + url
}

// cut returns a text of at most that many bytes, and after it, if it was cut, a mark and the link to the whole.
func (m limit) cut(text *string, most int, url string) *string {
	short := clip(text, most)
	if short == text {
		return text
	}
	marked := *short + " " + url
	return &marked
}

const ellipsis = "…"

// clip truncates a text to at most that many bytes, never inside a character, and marks the truncation.
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

// rfc3339 formats a time as RFC 3339 in UTC.
func rfc3339(t *time.Time) *string {
	if t == nil {
		return nil
	}
	s := t.UTC().Format(time.RFC3339Nano)
	return &s
}

// whole rounds seconds, as the API shows them.
func whole(seconds *float64) *int64 {
	if seconds == nil {
		return nil
	}
	n := int64(math.Round(*seconds))
	return &n
}
