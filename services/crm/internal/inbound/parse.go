package inbound

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/text"
)

const (
	maxBody = 64 << 10 // bytes; what is far larger is not even read
	maxKeys = 199      // 200 are refused
	maxKey  = 200      // characters of a key that is stored
	maxName = 200
)

// parse returns the values of a flat JSON object, in their order. Null is left out. Texts are cleaned, because nobody can correct
// them: the delivery of an automation comes once.
func parse(body []byte) ([]Value, error) {
	if len(body) > maxBody {
		return nil, fault.Fields(fault.Field{Type: "too_long", Loc: []any{"body"}, Msg: fmt.Sprintf("Input should have at most %d bytes", maxBody)})
	}
	if !utf8.Valid(body) {
		return nil, fault.New(fault.Malformed, "malformed_json", "The body is not JSON in UTF-8")
	}
	if !json.Valid(body) {
		return nil, fault.New(fault.Malformed, "malformed_json", "The body is not JSON")
	}
	if trimmed := bytes.TrimSpace(body); trimmed[0] != '{' {
		return nil, fault.Fields(fault.Field{Type: "dict_type", Loc: []any{"body"}, Msg: "Input should be a flat object"})
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("read an object: %w", err)
	}
	var values []Value
	var wrong []fault.Field
	at := map[string]int{}
	for n := 1; d.More(); n++ {
		key, err := d.Token()
		var raw json.RawMessage
		if err == nil {
			err = d.Decode(&raw)
		}
		if err != nil {
			return nil, fmt.Errorf("read an object: %w", err)
		}
		if n > maxKeys {
			return nil, fault.Fields(fault.Field{Type: "too_long", Loc: []any{"body"}, Msg: fmt.Sprintf("Input should have at most %d keys", maxKeys)})
		}
		name := text.Clean(key.(string))
		value, problem := scalar(raw)
		switch {
		case problem != "":
			wrong = append(wrong, fault.Field{Type: "value_error", Loc: []any{"body", text.First(name, maxKey)}, Msg: problem})
		case value == nil || name == "":
		default:
			if i, twice := at[name]; twice { // the last one counts, as in every JSON parser
				values[i].JSON = value
				continue
			}
			at[name] = len(values)
			values = append(values, Value{Key: name, JSON: value})
		}
	}
	if len(wrong) > 0 {
		return nil, fault.Fields(wrong...)
	}
	return values, nil
}

// scalar returns a value as it may be stored, nil for null, or what is wrong with it.
func scalar(raw json.RawMessage) (value json.RawMessage, problem string) {
	switch raw[0] {
	case '{', '[':
		return nil, "Input should be flat: a text, a number or a boolean"
	case 'n':
		return nil, ""
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, "Input should be a valid string"
		}
		return Text(text.Clean(s)), ""
	case 't', 'f':
		return raw, ""
	default:
		return number(string(raw)), ""
	}
}

// number returns a number as it may be stored. What the database cannot store as a number is a text.
func number(s string) json.RawMessage {
	_, exponent, scientific := strings.Cut(strings.ToLower(s), "e")
	e, err := strconv.Atoi(exponent)
	if len(s) > 64 || scientific && (err != nil || e < -300 || e > 300) {
		return Text(s)
	}
	return json.RawMessage(s)
}

// Text returns a text as JSON.
func Text(s string) json.RawMessage {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a text can always be encoded
	return bytes.TrimSpace(out.Bytes())
}
