package lead

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/text"
)

// maxExtra is the size of extra_data as JSON, in bytes.
const maxExtra = 64 << 10

// Limits of texts, in characters.
const (
	maxName         = 200
	maxObjections   = 10_000
	maxConversation = 20_000
)

// limited is a text with its limit in characters. The contract has the same limits; these are for what comes in other ways.
type limited struct {
	name  string
	value **string
	most  int
}

func (f *Fields) texts() []limited {
	return []limited{
		{"email", &f.Email, 254}, {"source_campaign", &f.SourceCampaign, 200}, {"ad_set", &f.AdSet, 200}, {"form_id", &f.FormID, 200},
		{"form_name", &f.FormName, 200}, {"google_sheet_row_id", &f.GoogleSheetRowID, 200}, {"interest_level", &f.InterestLevel, 10},
		{"course_interested_in", &f.CourseInterestedIn, 500}, {"payment_link_url", &f.PaymentLinkURL, 2000}, {"objections", &f.Objections, maxObjections},
		{"notes", &f.Notes, 10_000}, {"conversation_summary", &f.ConversationSummary, maxConversation},
	}
}

// cleaned trims every text, turns blank ones into nil and lists what is wrong.
func (l *Lead) cleaned() (Fields, []fault.Field) {
	f := l.Fields
	f.Name = strings.TrimSpace(f.Name)
	var wrong []fault.Field
	for _, t := range f.texts() {
		*t.value = cleanText(*t.value)
		if *t.value != nil && utf8.RuneCountInString(**t.value) > t.most {
			wrong = append(wrong, fault.BodyField(t.name, "string_too_long", fmt.Sprintf("String should have at most %d characters", t.most)))
		}
	}
	for _, t := range []**time.Time{&f.CallbackScheduledAt, &f.NextFollowUpAt, &f.LastContactedAt} {
		if *t != nil {
			*t = new((*t).UTC().Truncate(time.Microsecond))
		}
	}
	if f.ExtraData == nil {
		f.ExtraData = Extra{}
	}
	if utf8.RuneCountInString(f.Name) > maxName {
		wrong = append(wrong, fault.BodyField("name", "string_too_long", fmt.Sprintf("String should have at most %d characters", maxName)))
	}
	if f.Name == "" {
		wrong = append(wrong, fault.BodyField("name", "string_too_short", "String should have at least 1 character that is not a space"))
	}
	if f.Email != nil && !text.IsEmail(*f.Email) {
		wrong = append(wrong, fault.BodyField("email", "value_error", "Input should be a valid e-mail address"))
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

// shortened returns the first characters of a text.
func shortened(s string, most int) *string { return new(text.First(s, most)) }

func cleanText(s *string) *string { return text.Trimmed(s) }

// decide records that a person has chosen the status or intent.
func (l *Lead) decide(now time.Time) {
	l.DecidedAt, l.StatusReason = &now, nil
}
