package speech

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/convoflow/convoflow/libs/text"
)

// Limits of a response, in characters and items. Strict schemas cannot express them.
const (
	maxTitle    = 200
	maxSummary  = 4000
	maxItem     = 500
	maxQuote    = 1000
	maxItems    = 30
	maxEvidence = 100
)

// schema is the part of JSON Schema that the prompts use.
type schema struct {
	Type        types             `json:"type"`
	Description string            `json:"description,omitempty"`
	Enum        []any             `json:"enum,omitempty"`
	Minimum     *float64          `json:"minimum,omitempty"`
	Maximum     *float64          `json:"maximum,omitempty"`
	Items       *schema           `json:"items,omitempty"`
	Properties  map[string]schema `json:"properties,omitempty"`
	Required    []string          `json:"required,omitempty"`
	Additional  *bool             `json:"additionalProperties,omitempty"`
}

// types are the allowed types: one, or one and null.
type types []string

func (t *types) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = types{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

func (t types) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

// fitter makes what a model returned fit a schema. Servers that ignore the schema leave properties out, add others, and use other
// types: those are dropped and counted. Texts are cleaned, and what is too long is cut.
type fitter struct{ dropped int }

// fit returns the value, or ok false if it does not match at all.
func (f *fitter) fit(name string, s schema, value any) (fitted any, ok bool) {
	if value == nil {
		return s.empty(), true
	}
	switch s.Type[0] {
	case "object":
		object, ok := value.(map[string]any)
		return f.object(s, object), ok
	case "array":
		list, ok := value.([]any)
		return f.list(name, s, list), ok
	case "string":
		t, ok := value.(string)
		if t = text.First(strings.TrimSpace(text.Clean(t)), limitOf(name)); t == "" {
			return s.empty(), ok
		}
		return s.choice(t, ok)
	case "boolean":
		b, ok := value.(bool)
		return b, ok
	default: // number, integer
		n, ok := value.(float64)
		return n, ok && (s.Minimum == nil || n >= *s.Minimum) && (s.Maximum == nil || n <= *s.Maximum)
	}
}

// property returns the value of a property that fits.
func (f *fitter) property(name string, s schema, value any) any {
	fitted, ok := f.fit(name, s, value)
	if !ok {
		f.dropped++
		return s.empty()
	}
	return fitted
}

func (f *fitter) object(s schema, value map[string]any) map[string]any {
	fitted := map[string]any{}
	for name, property := range s.Properties {
		fitted[name] = f.property(name, property, value[name])
	}
	return fitted
}

// list leaves out the items that do not fit, are empty, or lack a text that they cannot be without.
func (f *fitter) list(name string, s schema, values []any) []any {
	fitted := []any{}
	for _, value := range values[:min(len(values), itemsOf(name))] {
		item, ok := f.fit(name, *s.Items, value)
		if !ok || s.Items.incomplete(item) {
			f.dropped++
			continue
		}
		fitted = append(fitted, item)
	}
	return fitted
}

func (s schema) incomplete(item any) bool {
	if object, ok := item.(map[string]any); ok {
		for name, property := range s.Properties {
			if property.incomplete(object[name]) {
				return true
			}
		}
	}
	return item == nil && !slices.Contains(s.Type, "null")
}

// choice returns a text as the enumeration spells it.
func (s schema) choice(t string, ok bool) (any, bool) {
	if s.Enum == nil {
		return t, ok
	}
	for _, one := range s.Enum {
		if name, isText := one.(string); isText && strings.EqualFold(name, t) {
			return name, ok
		}
	}
	return nil, false
}

// empty returns the value of a property that a model left out: null, unless it is a list or an object.
func (s schema) empty() any {
	switch {
	case slices.Contains(s.Type, "null"):
		return nil
	case s.Type[0] == "array":
		return []any{}
	case s.Type[0] == "object":
		return (&fitter{}).object(s, nil)
	}
	return nil
}

func limitOf(name string) int {
	switch name {
	case "title":
		return maxTitle
	case "summary":
		return maxSummary
	case "quote", "claim":
		return maxQuote
	}
	return maxItem
}

func itemsOf(name string) int {
	if name == "evidence" {
		return maxEvidence
	}
	return maxItems
}
