package lead

import (
	"encoding/json"
	"net/mail"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/text"
)

// maxExtra is the size of extra_data as JSON, in bytes.
const maxExtra = 64 << 10

// cleaned trims every text, turns blank ones into nil and lists what is wrong. Limits of length are in the contract.
func (l *Lead) cleaned() (Fields, []fault.Field) {
	f := l.Fields
	f.Name = strings.TrimSpace(f.Name)
	for _, t := range []**string{
		&f.Email, &f.SourceCampaign, &f.AdSet, &f.FormID, &f.FormName, &f.GoogleSheetRowID, &f.InterestLevel, &f.CourseInterestedIn,
		&f.PaymentLinkURL, &f.Objections, &f.Notes, &f.ConversationSummary,
	} {
		*t = cleanText(*t)
	}
	for _, t := range []**time.Time{&f.CallbackScheduledAt, &f.NextFollowUpAt, &f.LastContactedAt} {
		if *t != nil {
			*t = new((*t).UTC().Truncate(time.Microsecond))
		}
	}
	if f.ExtraData == nil {
		f.ExtraData = Extra{}
	}
	var wrong []fault.Field
	if f.Name == "" {
		wrong = append(wrong, fault.BodyField("name", "string_too_short", "String should have at least 1 character that is not a space"))
	}
	if f.Email != nil {
		if a, err := mail.ParseAddress(*f.Email); err != nil || a.Address != *f.Email {
			wrong = append(wrong, fault.BodyField("email", "value_error", "Input should be a valid e-mail address"))
		}
	}
	if l.AssignedAgentID != nil && !event.ValidID(*l.AssignedAgentID) {
		wrong = append(wrong, fault.BodyField("assigned_agent_id", "uuid_parsing", "Input should be a valid UUID"))
	}
	if f.InterestLevel != nil && !known([]string{"high", "medium", "low", "none"}, *f.InterestLevel) {
		wrong = append(wrong, fault.BodyField("interest_level", "enum", "Input should be one of: high, medium, low, none"))
	}
	if raw, err := json.Marshal(f.ExtraData); err != nil || len(raw) > maxExtra {
		wrong = append(wrong, fault.BodyField("extra_data", "too_long", "Input should have at most 65536 bytes"))
	}
	return f, wrong
}

func cleanText(s *string) *string { return text.Trimmed(s) }

// decide records that a person has chosen the status or intent.
func (l *Lead) decide(now time.Time) {
	l.DecidedAt, l.StatusReason = &now, nil
}
