package lead

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/text"
)

// Incoming is what a form, an automation or a file says about a lead. Empty fields are unknown.
type Incoming struct {
	Phone    *string `json:"phone"`     // E.164
	RawPhone *string `json:"raw_phone"` // as it came, if it is no phone number
	Fields
	HasCount bool `json:"has_count"` // FollowUpCount is known
	HasSent  bool `json:"has_sent"`  // PaymentLinkSent is known
}

// The largest fields in characters, as in the contract.
const (
	maxEmail   = 254
	maxShort   = 200
	maxCourse  = 500
	maxURL     = 2000
	maxText    = 10_000
	maxSummary = 20_000
	maxNumber  = 40
	maxStatus  = 50
	maxCount   = 1_000_000
)

// IsField reports whether Incoming.Set knows a field of that name.
func IsField(name string) bool { return slices.Contains(FieldNames(), name) }

// FieldNames returns the names of the fields that Incoming.Set knows, in the order of an export.
func FieldNames() []string {
	return []string{
		"name", "email", "source_campaign", "ad_set", "form_id", "form_name", "google_sheet_row_id", "status", "intent_category",
		"intent_confidence", "interest_level", "callback_scheduled_at", "next_followup_at", "last_contacted_at", "followup_count",
		"course_interested_in", "payment_link_url", "payment_link_sent", "objections", "notes", "conversation_summary",
	}
}

// Set sets a field by its name in the API, from a text. It reports whether there is such a field and the text fits it. The phone
// number and extra_data are no such fields.
func (in *Incoming) Set(field, value string) bool {
	value = strings.TrimSpace(value)
	if value == "" {
		return true
	}
	f := &in.Fields
	short := func(to **string, limit int) bool {
		if utf8.RuneCountInString(value) > limit {
			return false
		}
		*to = &value
		return true
	}
	switch field {
	case "name":
		if utf8.RuneCountInString(value) > maxName {
			return false
		}
		f.Name = value
		return true
	case "email":
		return text.IsEmail(value) && short(&f.Email, maxEmail)
	case "source_campaign":
		return short(&f.SourceCampaign, maxShort)
	case "ad_set":
		return short(&f.AdSet, maxShort)
	case "form_id":
		return short(&f.FormID, maxShort)
	case "form_name":
		return short(&f.FormName, maxShort)
	case "google_sheet_row_id":
		return short(&f.GoogleSheetRowID, maxShort)
	case "course_interested_in":
		return short(&f.CourseInterestedIn, maxCourse)
	case "payment_link_url":
		return short(&f.PaymentLinkURL, maxURL)
	case "objections":
		return short(&f.Objections, maxText)
	case "notes":
		return short(&f.Notes, maxText)
	case "conversation_summary":
		return short(&f.ConversationSummary, maxSummary)
	case "interest_level":
		value = strings.ToLower(value)
		return known([]string{"high", "medium", "low", "none"}, value) && short(&f.InterestLevel, maxShort)
	}
	return in.setState(field, value)
}

// setState sets the fields that say how far the sale is.
func (in *Incoming) setState(field, value string) bool {
	f := &in.Fields
	switch field {
	case "status":
		f.Status = Status(strings.ToLower(value))
		return utf8.RuneCountInString(value) <= maxStatus
	case "intent_category":
		intent := Intent(strings.ToLower(value))
		if !slices.Contains(Intents(), intent) {
			return false
		}
		f.IntentCategory = intent
		return true
	case "intent_confidence":
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || !(n >= 0 && n <= 1) { // false for NaN, too
			return false
		}
		f.IntentConfidence = &n
		return true
	case "followup_count":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > maxCount {
			return false
		}
		f.FollowUpCount, in.HasCount = n, true
		return true
	case "payment_link_sent":
		sent, err := strconv.ParseBool(strings.ToLower(value))
		if err != nil {
			return false
		}
		f.PaymentLinkSent, in.HasSent = sent, true
		return true
	case "callback_scheduled_at":
		return setTime(&f.CallbackScheduledAt, value)
	case "next_followup_at":
		return setTime(&f.NextFollowUpAt, value)
	case "last_contacted_at":
		return setTime(&f.LastContactedAt, value)
	}
	return false
}

// setTime reads a time as the API writes it, or a date with or without a time in UTC.
func setTime(to **time.Time, value string) bool {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		t, err := time.Parse(layout, value)
		if err == nil && t.Year() >= 1 && t.Year() <= 9999 {
			*to = new(t.UTC().Truncate(time.Microsecond))
			return true
		}
	}
	return false
}

// SetPhone sets the phone number. One that cannot be parsed is retained as it came.
func (in *Incoming) SetPhone(number string, normalize NormalizePhone) {
	number = strings.TrimSpace(number)
	if e164, ok := normalize(number); ok {
		in.Phone, in.RawPhone = &e164, nil
		return
	}
	in.Phone, in.RawPhone = nil, nil
	if number != "" {
		in.RawPhone = new(text.First(number, maxNumber))
	}
}

// SetExtra sets a value of extra_data, unless it is empty or extra_data would become too large.
func (in *Incoming) SetExtra(name string, value json.RawMessage) {
	if in.ExtraData == nil {
		in.ExtraData = Extra{}
	}
	in.ExtraData.add(name, value)
}

// add sets a value, and reports whether it did: extra_data has a largest size.
func (e Extra) add(name string, value json.RawMessage) bool {
	before, had := e[name]
	e[name] = value
	if raw, err := json.Marshal(e); err == nil && len(raw) <= maxExtra {
		return true
	}
	delete(e, name)
	if had {
		e[name] = before
	}
	return false
}

// New returns the lead that an incoming one becomes if nobody has its number, and its event.
func (in Incoming) New(agentID *string, now time.Time) (Lead, event.Event) {
	f := in.Fields
	if f.Name == "" { // a lead has a name: until somebody knows it, its number
		f.Name = text.Of(in.Phone) + text.Of(in.RawPhone)
	}
	l, _ := Create(f, in.Phone, in.RawPhone, agentID, now)
	l.Received = maps.Clone(l.ExtraData)
	return l, events.LeadImported.New(now, l.state())
}

// Merge adds what an incoming lead with the same number knows: it fills empty fields and sets values of extra_data. It does not
// overwrite what a person has changed, and no field that has a value. It returns the event, or ok false if nothing changed.
func (l *Lead) Merge(in Incoming, now time.Time) (changed event.Event, ok bool) {
	did := false
	if l.Name == l.Number() && in.Name != "" && in.Name != l.Name {
		l.Name, did = in.Name, true
	}
	texts, times := pairs(&l.Fields, &in.Fields)
	for _, f := range texts {
		if *f[0] == nil && *f[1] != nil {
			*f[0], did = *f[1], true
		}
	}
	for _, f := range times {
		if *f[0] == nil && *f[1] != nil {
			*f[0], did = *f[1], true
		}
	}
	if l.mergeExtra(in.ExtraData) {
		did = true
	}
	if !did {
		return event.Event{}, false
	}
	return l.Edited(l.IntentCategory, now), true
}

// pairs returns the texts and times that may be empty, each of one lead and of another.
func pairs(to, from *Fields) (texts [][2]**string, times [][2]**time.Time) {
	theirs := from.texts()
	for i, mine := range to.texts() {
		texts = append(texts, [2]**string{mine.value, theirs[i].value})
	}
	return texts, [][2]**time.Time{
		{&to.CallbackScheduledAt, &from.CallbackScheduledAt}, {&to.NextFollowUpAt, &from.NextFollowUpAt}, {&to.LastContactedAt, &from.LastContactedAt},
	}
}

// mergeExtra sets the values of extra_data that are new or that nobody has changed since they were received. The maps are replaced:
// the lead before the change has the old ones.
func (l *Lead) mergeExtra(extra Extra) (did bool) {
	data, received := maps.Clone(l.ExtraData), maps.Clone(l.Received)
	if data == nil {
		data = Extra{}
	}
	if received == nil {
		received = Extra{}
	}
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		value := extra[name]
		last, cameBefore := l.Received[name]
		now, has := l.ExtraData[name]
		byPerson := cameBefore && (!has || !sameJSON(now, last)) || !cameBefore && has
		if byPerson || has && sameJSON(now, value) || !data.add(name, value) {
			continue
		}
		received[name], did = value, true
	}
	if did {
		l.ExtraData, l.Received = data, received
	}
	return did
}

// sameJSON reports whether two JSON texts are the same value: the database changes their spelling.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	for raw, to := range map[*json.RawMessage]*any{&a: &x, &b: &y} {
		d := json.NewDecoder(bytes.NewReader(*raw))
		d.UseNumber()
		if d.Decode(to) != nil {
			return false
		}
	}
	return reflect.DeepEqual(x, y)
}

// Overwrite writes what a row of a file says about this lead, as a person who edits it: the fields that the row has replace those of
// the lead. It returns the event, or ok false if nothing changed.
func (l *Lead) Overwrite(in Incoming, now time.Time) (changed event.Event, ok bool) {
	before, status, intent := *l, l.Status, l.IntentCategory
	f, to := &in.Fields, &l.Fields
	if in.Phone != nil {
		l.Phone, l.RawPhone = in.Phone, nil
	}
	if f.Name != "" {
		to.Name = f.Name
	}
	texts, times := pairs(to, f)
	for _, t := range texts {
		if *t[1] != nil {
			*t[0] = *t[1]
		}
	}
	for _, t := range times {
		if *t[1] != nil {
			*t[0] = *t[1]
		}
	}
	if f.IntentConfidence != nil {
		to.IntentConfidence = f.IntentConfidence
	}
	if in.HasCount {
		to.FollowUpCount = f.FollowUpCount
	}
	if in.HasSent {
		to.PaymentLinkSent = f.PaymentLinkSent
	}
	if f.Status != "" {
		to.Status = f.Status
	}
	if f.IntentCategory != "" {
		to.IntentCategory = f.IntentCategory
	}
	to.ExtraData = maps.Clone(to.ExtraData)
	for _, name := range slices.Sorted(maps.Keys(f.ExtraData)) {
		to.ExtraData.add(name, f.ExtraData[name])
	}
	if l.Equals(before) {
		*l = before
		return event.Event{}, false
	}
	if l.Status != status || l.IntentCategory != intent {
		l.decide(now)
	}
	return l.Edited(intent, now), true
}

// Equals reports whether the fields of two states of a lead are the same.
func (l *Lead) Equals(o Lead) bool {
	a, errA := json.Marshal(Incoming{Phone: l.Phone, RawPhone: l.RawPhone, Fields: l.Fields})
	b, errB := json.Marshal(Incoming{Phone: o.Phone, RawPhone: o.RawPhone, Fields: o.Fields})
	return errA == nil && errB == nil && sameJSON(a, b)
}

// Snapshot is the part of a lead that an import changes.
type Snapshot struct {
	Incoming
	StatusReason *string    `json:"status_reason"`
	DecidedAt    *time.Time `json:"decided_at"`
	Received     Extra      `json:"received"`
}

// Snapshot returns what Restore restores.
func (l *Lead) Snapshot() Snapshot {
	return Snapshot{Incoming: Incoming{Phone: l.Phone, RawPhone: l.RawPhone, Fields: l.Fields}, StatusReason: l.StatusReason, DecidedAt: l.DecidedAt, Received: l.Received}
}

// Restore undoes a change of the lead and returns the event.
func (l *Lead) Restore(s Snapshot, now time.Time) event.Event {
	intent := l.IntentCategory
	l.Phone, l.RawPhone, l.Fields = s.Phone, s.RawPhone, s.Fields
	l.StatusReason, l.DecidedAt, l.Received = s.StatusReason, s.DecidedAt, s.Received
	if l.ExtraData == nil {
		l.ExtraData = Extra{}
	}
	if l.Received == nil {
		l.Received = Extra{}
	}
	return l.Edited(intent, now)
}

// Imported returns the event of a new lead, with its present state.
func (l *Lead) Imported(now time.Time) event.Event {
	l.Version = 1
	return events.LeadImported.New(now, l.state())
}
