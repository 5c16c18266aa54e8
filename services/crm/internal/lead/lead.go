// Package lead owns the people who may become clients: how to reach them, which stage of the sale they are in and what they
// intend. A lead is one phone number of the whole team. The package decides who may see a lead, and what a call or a person changes
// about it; it refuses a change by an older call than what a person decided since.
package lead

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Status is the stage of the sale. A team may add stages to the built-in ones.
type Status string

// The built-in statuses.
const (
	New         Status = "new"
	Contacted   Status = "contacted"
	InProgress  Status = "in_progress"
	Qualified   Status = "qualified"
	PaymentSent Status = "payment_sent"
	Converted   Status = "converted"
	Lost        Status = "lost"
	Deferred    Status = "deferred"
)

// Statuses returns the built-in statuses, in the order of a sale.
func Statuses() []Status {
	return []Status{New, Contacted, InProgress, Qualified, PaymentSent, Converted, Lost, Deferred}
}

// Open reports whether somebody still has to work on a lead with this status.
func (s Status) Open() bool { return s != Converted && s != Lost }

// Intent is what the lead intends.
type Intent string

// The intents.
const (
	IntentNew         Intent = "new"
	NoAnswer          Intent = "no_answer"
	NotInterested     Intent = "not_interested"
	CallbackRequested Intent = "callback_requested"
	Interested        Intent = "interested"
	PaymentPending    Intent = "payment_pending"
	FuturePlanning    Intent = "future_planning"
	IntentConverted   Intent = "converted"
	WrongNumber       Intent = "wrong_number"
	Undecided         Intent = "undecided"
)

// Intents returns all intents.
func Intents() []Intent {
	return []Intent{IntentNew, NoAnswer, NotInterested, CallbackRequested, Interested, PaymentPending, FuturePlanning, IntentConverted, WrongNumber, Undecided}
}

// Lead is somebody who may become a client. Its JSON is that of the API, except phone, which is Number.
type Lead struct {
	ID              string      `json:"id"`
	AssignedAgentID *string     `json:"assigned_agent_id"` // nil while nobody works on it
	Phone           *string     `json:"-"`                 // E.164, unique
	RawPhone        *string     `json:"-"`                 // as it came, if it is no phone number; then Phone is nil
	StatusReason    *string     `json:"status_reason"`     // why an automatic change moved it; nil if a person did
	ClientID        *string     `json:"client_id"`         // the client that was made of it
	DecidedAt       *time.Time  `json:"-"`                 // when a person last chose the status or intent
	ConvertedAt     *time.Time  `json:"-"`                 // nil unless the status is converted
	Call            AppliedCall `json:"-"`
	Found           Found       `json:"-"`
	Received        Extra       `json:"-"` // the values of extra_data as forms and files last sent them; never nil
	Version         int64       `json:"-"` // increases by one with each change
	Fields
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// AppliedCall is the newest call whose effect the lead has.
type AppliedCall struct {
	ID      *string
	Version int64 // of the call
	At      *time.Time
}

// Found is what a language model last found in a call or summary: a later one that does not find it takes it back.
type Found struct {
	IntentConfidence *float64   `json:"intent_confidence,omitempty"`
	InterestLevel    *string    `json:"interest_level,omitempty"`
	Objections       *string    `json:"objections,omitempty"` // as in the lead
	CallbackTime     *time.Time `json:"callback_time,omitempty"`
}

// Fields are the fields of a lead that people and forms write, except its phone and agent.
type Fields struct {
	Name             string  `json:"name"`
	Email            *string `json:"email"`
	SourceCampaign   *string `json:"source_campaign"`
	AdSet            *string `json:"ad_set"`
	FormID           *string `json:"form_id"`
	FormName         *string `json:"form_name"`
	GoogleSheetRowID *string `json:"google_sheet_row_id"`
	Status           Status  `json:"status"`
	IntentCategory   Intent  `json:"intent_category"`
	events.LeadDetails
	ExtraData Extra `json:"extra_data"` // never nil
}

// Extra is a lead's own fields of the team, and what came with it and has no field: values by name, as they were sent.
type Extra map[string]json.RawMessage

// NormalizePhone converts a phone number to E.164; ok is false for an invalid number.
type NormalizePhone func(number string) (e164 string, ok bool)

// Create returns a new lead and its event. phone is E.164 or nil; then raw is the number as it came.
func Create(f Fields, phone, raw, agentID *string, now time.Time) (Lead, event.Event) {
	if f.Status == "" {
		f.Status = New
	}
	if f.IntentCategory == "" {
		f.IntentCategory = IntentNew
	}
	if f.ExtraData == nil {
		f.ExtraData = Extra{}
	}
	l := Lead{ID: event.NewID(), AssignedAgentID: agentID, Phone: phone, RawPhone: raw, Received: Extra{}, Fields: f, CreatedAt: now}
	l.touch(now)
	return l, events.LeadImported.New(now, l.state())
}

// Number returns the phone number as people see it: E.164, or as it came if it is no phone number.
func (l *Lead) Number() string {
	switch {
	case l.Phone != nil:
		return *l.Phone
	case l.RawPhone != nil:
		return *l.RawPhone
	default:
		return ""
	}
}

// Edited records that the lead has changed and returns the event: that of the intent if it is another one than before.
func (l *Lead) Edited(before Intent, now time.Time) event.Event {
	l.touch(now)
	if l.IntentCategory != before {
		return l.named(now, l.state())
	}
	return events.LeadUpdated.New(now, l.state())
}

// erase returns the event that makes every other service delete the lead too. It has no personal data.
func (l *Lead) erase(now time.Time) event.Event {
	l.Version++
	return events.LeadDeleted.New(now, events.Lead{
		LeadID: l.ID, Version: l.Version, AssignedAgentID: l.AssignedAgentID, Status: string(l.Status), IntentCategory: string(l.IntentCategory),
		CreatedAt: l.CreatedAt, UpdatedAt: now,
	})
}

func (l *Lead) touch(now time.Time) {
	l.Version++
	l.UpdatedAt = now
	switch {
	case l.Status != Converted:
		l.ConvertedAt = nil
	case l.ConvertedAt == nil:
		l.ConvertedAt = &now
	}
}

func (l *Lead) state() events.Lead {
	return events.Lead{
		LeadID: l.ID, Version: l.Version, AssignedAgentID: l.AssignedAgentID, Name: l.Name, Phone: l.Phone, RawPhone: l.RawPhone, Email: l.Email,
		SourceCampaign: l.SourceCampaign, AdSet: l.AdSet, FormID: l.FormID, FormName: l.FormName, GoogleSheetRowID: l.GoogleSheetRowID,
		Status: string(l.Status), StatusReason: l.StatusReason, IntentCategory: string(l.IntentCategory), LeadDetails: l.LeadDetails,
		ExtraData: l.ExtraData, ClientID: l.ClientID, CreatedAt: l.CreatedAt, UpdatedAt: l.UpdatedAt,
	}
}

// CheckAccess fails unless the caller may see and change the lead: its agent and admins may, and every agent may if nobody works on
// it.
func (l *Lead) CheckAccess(caller identity.Caller) error {
	if l.AssignedAgentID != nil && !caller.MaySee(*l.AssignedAgentID) {
		return fault.New(fault.Forbidden, "lead_forbidden", "This lead belongs to another agent")
	}
	return nil
}

// NotFound is the fault of a lead that does not exist.
func NotFound() error { return fault.New(fault.NotFound, "lead_not_found", "Lead not found") }

const codeExists = "lead_exists"

// Exists is the fault of a phone number that another lead already has. leadID is empty if it is not to be revealed.
func Exists(leadID string) error {
	exists := fault.New(fault.Conflict, codeExists, "A lead with this phone number exists already")
	if leadID == "" {
		return exists
	}
	return exists.With("lead_id", leadID)
}

// known reports whether a text is one of the values.
func known[T ~string](values []T, v T) bool { return slices.Contains(values, v) }
