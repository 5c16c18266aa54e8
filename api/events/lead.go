package events

import (
	"encoding/json"
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// Events of crm about leads. A change of the intent is published with the name of the new intent, so that automations can start on
// it; any other change is lead.updated. Each of them has the whole state of the lead.
var (
	LeadImported          = event.Type[Lead]{Name: "lead.imported", Topic: LeadsTopic}
	LeadUpdated           = event.Type[Lead]{Name: "lead.updated", Topic: LeadsTopic}
	LeadDeleted           = event.Type[Lead]{Name: "lead.deleted", Topic: LeadsTopic}
	LeadNoAnswer          = event.Type[Lead]{Name: "lead.no_answer", Topic: LeadsTopic}
	LeadNotInterested     = event.Type[Lead]{Name: "lead.not_interested", Topic: LeadsTopic}
	LeadCallbackRequested = event.Type[Lead]{Name: "lead.callback_requested", Topic: LeadsTopic}
	LeadInterested        = event.Type[Lead]{Name: "lead.interested", Topic: LeadsTopic}
	LeadPaymentPending    = event.Type[Lead]{Name: "lead.payment_pending", Topic: LeadsTopic}
	LeadFuturePlanning    = event.Type[Lead]{Name: "lead.future_planning", Topic: LeadsTopic}
	LeadConverted         = event.Type[Lead]{Name: "lead.converted", Topic: LeadsTopic}
	LeadWrongNumber       = event.Type[Lead]{Name: "lead.wrong_number", Topic: LeadsTopic}
	LeadUndecided         = event.Type[Lead]{Name: "lead.undecided", Topic: LeadsTopic}
)

// LeadIntents returns the event types that are named after an intent.
func LeadIntents() []event.Type[Lead] {
	return []event.Type[Lead]{
		LeadNoAnswer, LeadNotInterested, LeadCallbackRequested, LeadInterested, LeadPaymentPending, LeadFuturePlanning, LeadConverted,
		LeadWrongNumber, LeadUndecided,
	}
}

// LeadChanges returns all event types that have the state of a lead that exists: all but lead.deleted.
func LeadChanges() []event.Type[Lead] {
	return append([]event.Type[Lead]{LeadImported, LeadUpdated}, LeadIntents()...)
}

// LeadDetails are what is known of a lead besides who it is and its stage.
type LeadDetails struct {
	IntentConfidence    *float64   `json:"intent_confidence"` // 0 to 1
	InterestLevel       *string    `json:"interest_level"`    // high, medium, low, none
	CallbackScheduledAt *time.Time `json:"callback_scheduled_at"`
	NextFollowUpAt      *time.Time `json:"next_followup_at"`
	LastContactedAt     *time.Time `json:"last_contacted_at"`
	FollowUpCount       int        `json:"followup_count"` // attempts to reach the lead
	CourseInterestedIn  *string    `json:"course_interested_in"`
	PaymentLinkURL      *string    `json:"payment_link_url"`
	PaymentLinkSent     bool       `json:"payment_link_sent"`
	Objections          *string    `json:"objections"`
	Notes               *string    `json:"notes"`
	ConversationSummary *string    `json:"conversation_summary"`
}

// Lead is somebody who may become a client. The event of a deleted lead has only its ids, version and times, so that consumers
// erase the rest.
type Lead struct {
	LeadID           string  `json:"lead_id"`
	Version          int64   `json:"version"` // incremented by each change
	AssignedAgentID  *string `json:"assigned_agent_id"`
	Name             string  `json:"name"`
	Phone            *string `json:"phone"`     // E.164, unique among the leads of the team
	RawPhone         *string `json:"raw_phone"` // as it came, if it is no phone number
	Email            *string `json:"email"`
	SourceCampaign   *string `json:"source_campaign"`
	AdSet            *string `json:"ad_set"`
	FormID           *string `json:"form_id"`
	FormName         *string `json:"form_name"`
	GoogleSheetRowID *string `json:"google_sheet_row_id"`
	Status           string  `json:"status"` // new, contacted, in_progress, qualified, payment_sent, converted, lost, deferred, or a stage of the team
	StatusReason     *string `json:"status_reason"`
	IntentCategory   string  `json:"intent_category"`
	LeadDetails
	ExtraData map[string]json.RawMessage `json:"extra_data"`
	ClientID  *string                    `json:"client_id"`  // the client that was made of the lead
	CallID    *string                    `json:"call_id"`    // of the call that caused this change
	AttemptID *string                    `json:"attempt_id"` // the id of the call without a recording to write, for an attempt that a person reported
	CreatedAt time.Time                  `json:"created_at"`
	UpdatedAt time.Time                  `json:"updated_at"`
}

// AggregateID returns the lead's id.
func (l Lead) AggregateID() string { return l.LeadID }
