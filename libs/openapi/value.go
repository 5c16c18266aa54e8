package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/language"
	"github.com/convoflow/convoflow/libs/text"
)

// formats are the formats that the schema compiler would not validate as the contract defines them.
var formats = map[string]func(any) error{
	"uuid":      ofText(regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`).MatchString), // an id has one spelling
	"date-time": ofText(func(s string) bool { _, err := ParseTime(s); return err == nil }),
	"language":  ofText(func(s string) bool { return language.IsCode(strings.ToLower(s)) }),
	"email":     ofText(text.IsEmail),
}

func ofText(ok func(string) bool) func(any) error {
	return func(v any) error {
		if s, isText := v.(string); isText && !ok(s) {
			return errors.New("wrong format")
		}
		return nil
	}
}

// layouts are the time formats that apps send. A time without a zone is UTC.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04", time.DateOnly}

// ParseTime parses a time in any of the formats that apps send. The result is in UTC.
func ParseTime(s string) (time.Time, error) {
	for _, layout := range layouts {
		if t, err := time.Parse(layout, s); err == nil && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no RFC 3339 time", s)
}

// Convert converts the text of a parameter or form field into a value of its JSON type. If that fails, typ and msg describe the
// problem; otherwise typ is empty.
func Convert(text, kind string) (value any, typ, msg string) {
	switch kind {
	case "integer":
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			return nil, "int_parsing", "Input should be a valid integer"
		}
		return number(text)
	case "number":
		if f, err := strconv.ParseFloat(text, 64); err != nil || f != f || f > 1e300 || f < -1e300 {
			return nil, "float_parsing", "Input should be a valid number"
		}
		return number(text)
	case "boolean":
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, "bool_parsing", "Input should be true or false"
		}
		return b, "", ""
	default:
		return text, "", ""
	}
}

// number converts a number. It refuses numbers that Go accepts and JSON does not, such as +5 and 0x10: they cannot be marshaled.
func number(text string) (value any, typ, msg string) {
	if !json.Valid([]byte(text)) {
		return nil, "value_error", "Input should be a number as JSON writes it, such as 5 or 0.5"
	}
	return json.Number(text), "", ""
}
