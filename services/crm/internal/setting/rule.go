package setting

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // images have no time zones of their own

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/crm/internal/followup"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// rule is what a key takes.
type rule struct {
	description string
	byDefault   string // JSON
	// clean checks a value, and returns it as it is stored.
	clean func(json.RawMessage) (json.RawMessage, []fault.Field)
}

const (
	maxStages  = 50
	maxFields  = 100
	maxChoices = 200
	maxMapped  = 500
	maxLabel   = 200 // characters
)

var rules = map[string]rule{
	LeadStatuses: {"More stages of leads, beside the built-in ones.", `[]`, cleanStages},
	LeadFields:   {"The team's own fields of leads, stored in extra_data.", `[]`, cleanFields},
	LeadMapping:  {"Which field each key of an inbound lead is, besides the well-known ones.", `{}`, cleanMapping},
	WorkingHours: {
		"When the team works, by day of the week.",
		`{"monday":{"start":"09:00","end":"18:00"},"tuesday":{"start":"09:00","end":"18:00"},"wednesday":{"start":"09:00","end":"18:00"},"thursday":{"start":"09:00","end":"18:00"},"friday":{"start":"09:00","end":"18:00"},"saturday":null,"sunday":null}`,
		cleanHours,
	},
	TimeZone: {"The time zone of the team, as the IANA names it.", `"UTC"`, cleanZone},
}

// Stage is a status of leads that the team has added.
type Stage struct {
	Name  string `json:"name"`
	Label string `json:"label"` // for people
}

// UnmarshalJSON also takes the name alone.
func (s *Stage) UnmarshalJSON(raw []byte) error {
	if json.Unmarshal(raw, &s.Name) == nil {
		return nil
	}
	type plain Stage
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode((*plain)(s))
}

// Field is a field of leads that the team has added.
type Field struct {
	Name    string   `json:"name"`
	Label   string   `json:"label"` // for people
	Type    string   `json:"type"`  // text, number, boolean, date, choice
	Choices []string `json:"choices"`
}

// Hours are the working hours of a day, as 15:04.
type Hours struct {
	Start string `json:"start"`
	End   string `json:"end"`
}

// shift reads the times. It fails unless the end is later than the start.
func (h Hours) shift() (followup.Shift, error) {
	from, err1 := time.Parse("15:04", h.Start)
	to, err2 := time.Parse("15:04", h.End)
	if err := errors.Join(err1, err2); err != nil {
		return followup.Shift{}, err
	}
	if !from.Before(to) {
		return followup.Shift{}, errors.New("the end is not later than the start")
	}
	return followup.Shift{From: sinceMidnight(from), To: sinceMidnight(to)}, nil
}

func sinceMidnight(t time.Time) time.Duration {
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}

// Week is the working hours by day of the week, nil on a day off.
type Week struct {
	Monday    *Hours `json:"monday"`
	Tuesday   *Hours `json:"tuesday"`
	Wednesday *Hours `json:"wednesday"`
	Thursday  *Hours `json:"thursday"`
	Friday    *Hours `json:"friday"`
	Saturday  *Hours `json:"saturday"`
	Sunday    *Hours `json:"sunday"`
}

// On returns the hours of a day, nil on a day off.
func (w Week) On(day time.Weekday) *Hours {
	return []*Hours{w.Sunday, w.Monday, w.Tuesday, w.Wednesday, w.Thursday, w.Friday, w.Saturday}[day]
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,49}$`)

// wrongAt returns what is wrong at a place of the value.
func wrongAt(msg string, at ...any) fault.Field {
	return fault.Field{Type: "value_error", Loc: append([]any{"body", "value"}, at...), Msg: msg}
}

const nameMsg = "Input should be a name of lower-case letters, digits and underscores, at most 50"

// decode reads a value of one form, without members that the form does not have.
func decode(raw json.RawMessage, into any, form string) []fault.Field {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if len(raw) == 0 || string(raw) == "null" || d.Decode(into) != nil {
		return []fault.Field{wrongAt("Input should be " + form)}
	}
	return nil
}

func encode(v any) json.RawMessage {
	raw, _ := json.Marshal(v) // these types always marshal
	return raw
}

func builtIn(s lead.Status) bool { return slices.Contains(lead.Statuses(), s) }

func has(stages []Stage, name string) bool {
	return slices.ContainsFunc(stages, func(s Stage) bool { return s.Name == name })
}

func cleanStages(raw json.RawMessage) (json.RawMessage, []fault.Field) {
	stages := []Stage{}
	if wrong := decode(raw, &stages, "a list of stages: names, or {name, label}"); wrong != nil {
		return nil, wrong
	}
	var wrong []fault.Field
	if len(stages) > maxStages {
		wrong = append(wrong, wrongAt(fmt.Sprintf("List should have at most %d items", maxStages)))
	}
	for i, s := range stages {
		switch {
		case !namePattern.MatchString(s.Name):
			wrong = append(wrong, wrongAt(nameMsg, i, "name"))
		case builtIn(lead.Status(s.Name)):
			wrong = append(wrong, wrongAt("This stage is built in", i, "name"))
		case has(stages[:i], s.Name):
			wrong = append(wrong, wrongAt("This name is in the list twice", i, "name"))
		}
		stages[i].Label, wrong = label(s.Label, s.Name, wrong, i)
	}
	return encode(stages), wrong
}

// label returns the text for people, by default the name.
func label(text, name string, wrong []fault.Field, i int) (string, []fault.Field) {
	if text = strings.TrimSpace(text); text == "" {
		text = strings.ReplaceAll(name, "_", " ")
	}
	if len([]rune(text)) > maxLabel {
		wrong = append(wrong, wrongAt(fmt.Sprintf("String should have at most %d characters", maxLabel), i, "label"))
	}
	return text, wrong
}

func cleanFields(raw json.RawMessage) (json.RawMessage, []fault.Field) {
	fields := []Field{}
	if wrong := decode(raw, &fields, "a list of fields: {name, label, type, choices}"); wrong != nil {
		return nil, wrong
	}
	var wrong []fault.Field
	if len(fields) > maxFields {
		wrong = append(wrong, wrongAt(fmt.Sprintf("List should have at most %d items", maxFields)))
	}
	for i, f := range fields {
		switch {
		case !namePattern.MatchString(f.Name):
			wrong = append(wrong, wrongAt(nameMsg, i, "name"))
		case slices.Contains(Targets(), f.Name):
			wrong = append(wrong, wrongAt("Leads have this field already", i, "name"))
		case slices.ContainsFunc(fields[:i], func(g Field) bool { return g.Name == f.Name }):
			wrong = append(wrong, wrongAt("This name is in the list twice", i, "name"))
		}
		if !slices.Contains([]string{"text", "number", "boolean", "date", "choice"}, f.Type) {
			wrong = append(wrong, wrongAt("Input should be one of: text, number, boolean, date, choice", i, "type"))
		}
		if (f.Type == "choice") != (len(f.Choices) > 0) || len(f.Choices) > maxChoices {
			wrong = append(wrong, wrongAt(fmt.Sprintf("A field of the type choice, and no other, has 1 to %d choices", maxChoices), i, "choices"))
		}
		if fields[i].Choices == nil {
			fields[i].Choices = []string{}
		}
		fields[i].Label, wrong = label(f.Label, f.Name, wrong, i)
	}
	return encode(fields), wrong
}

// takes reports whether a value fits the field. Null and "" fit any.
func (f Field) takes(raw json.RawMessage) bool {
	var value any
	if json.Unmarshal(raw, &value) != nil {
		return false
	}
	if value == nil || value == "" {
		return true
	}
	switch text, isText := value.(string); f.Type {
	case "number":
		_, ok := value.(float64)
		return ok
	case "boolean":
		_, ok := value.(bool)
		return ok
	case "date":
		_, err := time.Parse(time.DateOnly, text)
		return isText && err == nil
	case "choice":
		return isText && slices.Contains(f.Choices, text)
	default:
		return isText
	}
}

func (f Field) expects() string {
	switch f.Type {
	case "date":
		return "Input should be a date such as 2026-11-24"
	case "choice":
		return "Input should be one of: " + strings.Join(f.Choices, ", ")
	default:
		return "Input should be a " + f.Type
	}
}

// Targets returns the fields of leads that the mapping of inbound leads may name, besides extra_data.<name> and the team's own.
func Targets() []string {
	return []string{
		"name", "first_name", "last_name", "phone", "email", "source_campaign", "ad_set", "form_id", "form_name", "google_sheet_row_id",
		"intent_category", "status", "interest_level", "callback_scheduled_at", "next_followup_at", "course_interested_in",
		"payment_link_url", "objections", "notes", "conversation_summary",
	}
}

const extraPrefix = "extra_data."

func cleanMapping(raw json.RawMessage) (json.RawMessage, []fault.Field) {
	mapping := map[string]string{}
	if wrong := decode(raw, &mapping, "an object with the name of a field for each inbound key"); wrong != nil {
		return nil, wrong
	}
	var wrong []fault.Field
	if len(mapping) > maxMapped {
		wrong = append(wrong, wrongAt(fmt.Sprintf("Object should have at most %d members", maxMapped)))
	}
	for _, key := range slices.Sorted(maps.Keys(mapping)) {
		target, isExtra := strings.CutPrefix(mapping[key], extraPrefix)
		switch {
		case strings.TrimSpace(key) == "" || len([]rune(key)) > maxLabel:
			wrong = append(wrong, wrongAt(fmt.Sprintf("A key should have 1 to %d characters", maxLabel), key))
		case isExtra && target != "" && len([]rune(target)) <= maxLabel:
		case !isExtra && slices.Contains(Targets(), target):
		default:
			wrong = append(wrong, wrongAt("Input should be extra_data.<name>, or one of: "+strings.Join(Targets(), ", "), key))
		}
	}
	return encode(mapping), wrong
}

func cleanHours(raw json.RawMessage) (json.RawMessage, []fault.Field) {
	var week Week
	if wrong := decode(raw, &week, "an object with {start, end} or null for each day from monday to sunday"); wrong != nil {
		return nil, wrong
	}
	var wrong []fault.Field
	days := 0
	for day := time.Sunday; day <= time.Saturday; day++ {
		h := week.On(day)
		if h == nil {
			continue
		}
		days++
		if _, err := h.shift(); err != nil {
			wrong = append(wrong, wrongAt("Input should be a start and a later end such as 09:00 and 18:00", strings.ToLower(day.String())))
		}
	}
	if days == 0 {
		wrong = append(wrong, wrongAt("At least one day should have working hours"))
	}
	return encode(week), wrong
}

func cleanZone(raw json.RawMessage) (json.RawMessage, []fault.Field) {
	var name string
	msg := "the name of a time zone such as Asia/Kolkata"
	if wrong := decode(raw, &name, msg); wrong != nil {
		return nil, wrong
	}
	if _, err := time.LoadLocation(name); err != nil || name == "" || name == "Local" {
		return nil, []fault.Field{wrongAt("Input should be " + msg)}
	}
	return encode(name), nil
}
