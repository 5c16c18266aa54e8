package inbound

import (
	"encoding/json"
	"strings"
	"unicode"

	"github.com/convoflow/convoflow/libs/text"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
)

// Names of what a key can mean besides the fields of a lead.
const (
	phoneField = "phone"
	firstName  = "first_name"
	lastName   = "last_name"
)

// builtIn has the keys that forms and automations send, in the spelling of fold.
func builtIn() map[string]string {
	table := map[string]string{}
	for field, keys := range map[string][]string{
		"name":                 {"name", "fullname", "leadname", "customername", "contactname", "yourname", "studentname"},
		firstName:              {"firstname", "fname", "givenname"},
		lastName:               {"lastname", "lname", "surname", "familyname"},
		phoneField:             {"phone", "phonenumber", "phoneno", "mobile", "mobilenumber", "mobileno", "contact", "contactnumber", "contactno", "cell", "cellphone", "telephone", "tel", "whatsapp", "whatsappnumber", "workphone", "workphonenumber"},
		"email":                {"email", "emailaddress", "emailid", "mail", "workemail"},
		"source_campaign":      {"sourcecampaign", "campaign", "campaignname", "utmcampaign", "source"},
		"ad_set":               {"adset", "adsetname"},
		"form_id":              {"formid"},
		"form_name":            {"formname", "form"},
		"google_sheet_row_id":  {"googlesheetrowid", "sheetrowid", "rowid", "row", "rownumber"},
		"course_interested_in": {"courseinterestedin", "course", "coursename", "interestedcourse", "program", "product"},
		"interest_level":       {"interestlevel"},
		"payment_link_url":     {"paymentlinkurl", "paymentlink"},
		"objections":           {"objections"},
		"notes":                {"notes", "note", "comment", "comments", "message", "remarks"},
		"conversation_summary": {"conversationsummary"},
	} {
		for _, key := range keys {
			table[key] = field
		}
	}
	return table
}

// fold makes keys that differ only in case, spaces, hyphens and other signs the same.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, key)
}

// Table says what keys mean.
type Table struct{ fields map[string]string }

// NewTable returns the built-in table with the team's own keys, which come first. An own key may also mean a value of extra_data:
// any name that is no field.
func NewTable(own map[string]string) Table {
	t := Table{builtIn()}
	for key, field := range own {
		if key = fold(key); key != "" {
			t.fields[key] = field
		}
	}
	return t
}

// Also returns the table with more keys, which mean the field of the same name.
func (t Table) Also(fields ...string) Table {
	for _, field := range fields {
		t.fields[fold(field)] = field
	}
	return t
}

// Field returns what a key means: the name of a field, or "".
func (t Table) Field(key string) string { return t.fields[fold(key)] }

// IsPhone reports whether a key means the phone number.
func (t Table) IsPhone(key string) bool { return t.Field(key) == phoneField }

// Value is one key of a delivery or column of a file, in its order.
type Value struct {
	Key  string
	JSON json.RawMessage // a text, number or boolean
}

// text returns the value as a text.
func (v Value) text() string {
	var s string
	if json.Unmarshal(v.JSON, &s) == nil {
		return s
	}
	return string(v.JSON)
}

// Arrange makes a lead of the values. If two keys mean one field, the first one with a value counts; what does not fit a field, and
// what means none, is in its extra_data.
func (t Table) Arrange(values []Value, normalize lead.NormalizePhone) lead.Incoming {
	var in lead.Incoming
	taken, names := map[string]bool{}, map[string]string{}
	extra := func(v Value) { in.SetExtra(text.First(strings.TrimSpace(v.Key), maxKey), v.JSON) }
	for _, v := range values {
		content := strings.TrimSpace(v.text())
		field := t.Field(v.Key)
		switch {
		case content == "":
		case field == "" || taken[field]:
			extra(v)
		case field == phoneField:
			in.SetPhone(content, normalize)
			taken[field] = true
		case field == firstName || field == lastName:
			names[field], taken[field] = content, true
		case in.Set(field, content):
			taken[field] = true
		case lead.IsField(field):
			extra(v)
		default: // a name in extra_data that the team has chosen
			extra(Value{Key: field, JSON: v.JSON})
		}
	}
	if whole := strings.TrimSpace(names[firstName] + " " + names[lastName]); in.Name == "" && whole != "" {
		in.Set("name", text.First(whole, maxName))
	}
	return in
}
