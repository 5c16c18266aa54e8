package openapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/convoflow/convoflow/libs/fault"
)

// Schema is one JSON schema of the document. It is safe for concurrent use.
type Schema struct{ compiled *jsonschema.Schema }

// Check validates a value and returns all invalid fields. loc is the location of the value itself, such as "body".
func (s Schema) Check(value any, loc ...any) []fault.Field {
	fields, safe := invalidValues(value, slices.Clone(loc))
	if !safe {
		return fields
	}
	err := s.compiled.Validate(value)
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		collect(invalid, value, loc, &fields)
	}
	object, ok := value.(map[string]any)
	if least := s.least(); ok && len(fields) == 0 && least > 0 && s.knownIn(object) < least {
		fields = append(fields, tooFewFields(slices.Clone(loc), least))
	}
	return fields
}

// least returns the minimum number of properties of the schema's objects.
func (s Schema) least() int {
	least := 0
	for _, part := range parts([]*jsonschema.Schema{s.compiled}) {
		if part.MinProperties != nil {
			least = max(least, *part.MinProperties)
		}
	}
	return least
}

// knownIn counts the members of an object that the schema defines. In an update only they count: an update without known
// fields would change nothing.
func (s Schema) knownIn(object map[string]any) (n int) {
	names := map[string]bool{}
	for _, part := range parts([]*jsonschema.Schema{s.compiled}) {
		for name := range part.Properties {
			names[name] = true
		}
	}
	if len(names) == 0 {
		return len(object) // the schema allows any member
	}
	for name := range object {
		if names[name] {
			n++
		}
	}
	return n
}

func tooFewFields(loc []any, least int) fault.Field {
	return fault.Field{Type: "too_short", Loc: loc, Msg: fmt.Sprintf("Send at least %d of the fields", least)}
}

// Property returns the JSON type of a property. known is false if the schema does not define it.
func (s Schema) Property(name string) (kind string, known bool) {
	for _, part := range parts([]*jsonschema.Schema{s.compiled}) {
		if p, ok := part.Properties[name]; ok {
			return typeOf(p), true
		}
	}
	return "", false
}

// Known removes from a validated value what the schema does not define, and returns it. It changes value. See known.
func (s Schema) Known(value any) any { return known(value, s.compiled) }

// Default returns the schema's default value, or nil if it has none.
func (s Schema) Default() any {
	for at := s.compiled; at != nil; at = at.Ref {
		if at.Default != nil {
			return *at.Default
		}
	}
	return nil
}

// isUUID reports whether the schema has the format uuid.
func (s Schema) isUUID() bool {
	return slices.ContainsFunc(parts([]*jsonschema.Schema{s.compiled}), func(p *jsonschema.Schema) bool {
		return p.Format != nil && p.Format.Name == "uuid"
	})
}

func collect(e *jsonschema.ValidationError, value any, base []any, out *[]fault.Field) {
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			collect(cause, value, base, out)
		}
		return
	}
	loc := append(slices.Clone(base), location(e.InstanceLocation, value)...)
	typ, msg := describe(e.ErrorKind)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			*out = append(*out, fault.Field{Type: typ, Loc: append(slices.Clone(loc), name), Msg: msg})
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			*out = append(*out, fault.Field{Type: typ, Loc: append(slices.Clone(loc), name), Msg: msg})
		}
	default:
		*out = append(*out, fault.Field{Type: typ, Loc: loc, Msg: msg})
	}
}

// location returns the path to a part of a value: names of fields and indexes of lists.
func location(parts []string, value any) (loc []any) {
	for _, part := range parts {
		if list, ok := value.([]any); ok {
			i, _ := strconv.Atoi(part) // the validator returns valid indexes
			loc, value = append(loc, i), list[i]
			continue
		}
		object, _ := value.(map[string]any)
		loc, value = append(loc, part), object[part]
	}
	return loc
}

// describe returns the type and message of a problem as pydantic has them, because the apps match on those.
func describe(k jsonschema.ErrorKind) (typ, msg string) {
	switch k := k.(type) {
	case *kind.Required:
		return "missing", "Field required"
	case *kind.Type:
		want := slices.DeleteFunc(slices.Clone(k.Want), func(t string) bool { return t == "null" })
		if len(want) != 1 {
			return "type_error", "Input should be one of: " + strings.Join(k.Want, ", ")
		}
		names := map[string][2]string{
			"string":  {"string_type", "Input should be a valid string"},
			"integer": {"int_type", "Input should be a valid integer"},
			"number":  {"float_type", "Input should be a valid number"},
			"boolean": {"bool_type", "Input should be a valid boolean"},
			"array":   {"list_type", "Input should be a valid list"},
			"object":  {"dict_type", "Input should be an object"},
		}
		name := names[want[0]]
		return name[0], name[1]
	case *kind.MinLength:
		return "string_too_short", "String should have at least " + count(k.Want, "character")
	case *kind.MaxLength:
		return "string_too_long", "String should have at most " + count(k.Want, "character")
	case *kind.MinItems:
		return "too_short", "List should have at least " + count(k.Want, "item")
	case *kind.MaxItems:
		return "too_long", "List should have at most " + count(k.Want, "item")
	case *kind.MinProperties:
		return "too_short", fmt.Sprintf("Send at least %d of the fields", k.Want)
	case *kind.Minimum:
		return "greater_than_equal", "Input should be greater than or equal to " + k.Want.RatString()
	case *kind.Maximum:
		return "less_than_equal", "Input should be less than or equal to " + k.Want.RatString()
	case *kind.ExclusiveMinimum:
		return "greater_than", "Input should be greater than " + k.Want.RatString()
	case *kind.ExclusiveMaximum:
		return "less_than", "Input should be less than " + k.Want.RatString()
	case *kind.Enum:
		return "enum", "Input should be one of: " + list(k.Want)
	case *kind.Pattern:
		return "string_pattern_mismatch", "String should match the pattern " + k.Want
	case *kind.Format:
		formatted := map[string][2]string{
			"uuid":      {"uuid_parsing", "Input should be a valid UUID"},
			"date-time": {"datetime_parsing", "Input should be a time such as 2026-11-24T09:30:00Z"},
			"email":     {"value_error", "Input should be a valid e-mail address"},
			"language":  {"value_error", "Input should be an ISO 639-1 code such as en"},
		}
		if f, ok := formatted[k.Want]; ok {
			return f[0], f[1]
		}
		return "value_error", "Input should be a valid " + k.Want
	case *kind.AdditionalProperties, *kind.FalseSchema:
		return "extra_forbidden", "Extra inputs are not permitted"
	default:
		return "value_error", "Input is not valid"
	}
}

// list formats the values of an enum. It omits null, because omitting the field means the same.
func list(values []any) string {
	var texts []string
	for _, v := range values {
		if v != nil {
			texts = append(texts, fmt.Sprint(v))
		}
	}
	return strings.Join(texts, ", ")
}

// invalidValues finds values that no service accepts: texts that PostgreSQL rejects, and numbers that are so large or precise
// that comparing them is expensive. If there is such a number, safe is false and the value must not be validated. loc is
// reused during the recursion, so each reported field has a copy.
func invalidValues(v any, loc []any) (out []fault.Field, safe bool) {
	safe = true
	inner := func(v any, at any) {
		fields, ok := invalidValues(v, append(loc, at))
		out, safe = append(out, fields...), safe && ok
	}
	switch v := v.(type) {
	case string:
		if strings.ContainsRune(v, 0) || !utf8.ValidString(v) {
			out = []fault.Field{badText(loc)}
		}
	case json.Number:
		if !plausible(v) {
			return []fault.Field{{Type: "value_error", Loc: slices.Clone(loc), Msg: "The number is out of range"}}, false
		}
	case map[string]any:
		for name, value := range v {
			if strings.ContainsRune(name, 0) {
				out = append(out, badText(loc))
			}
			inner(value, name)
		}
	case []any:
		for i, value := range v {
			inner(value, i)
		}
	}
	return out, safe
}

func badText(loc []any) fault.Field {
	return fault.Field{Type: "string_unicode", Loc: slices.Clone(loc), Msg: "Text should be UTF-8 without the character U+0000"}
}

// plausible reports whether a number is short and in the range of a float64. The validator calculates exactly, so 1e999999
// would have a million digits.
func plausible(n json.Number) bool {
	_, exponent, _ := strings.Cut(strings.ToLower(string(n)), "e")
	e, err := strconv.Atoi(cmp.Or(exponent, "0"))
	return err == nil && e >= -400 && e <= 400 && len(n) <= 64
}

// known removes from a validated value what the schemas do not define. Names must match exactly: encoding/json would accept
// "NAME" for "name", which has not been validated. Times become RFC 3339 in UTC. An object whose schemas define no properties
// is not changed.
func known(v any, schemas ...*jsonschema.Schema) any {
	schemas = parts(schemas)
	switch v := v.(type) {
	case string:
		isTime := slices.ContainsFunc(schemas, func(s *jsonschema.Schema) bool { return s.Format != nil && s.Format.Name == "date-time" })
		if at, err := ParseTime(v); isTime && err == nil {
			return at.Format(time.RFC3339Nano)
		}
	case []any:
		var items []*jsonschema.Schema
		for _, s := range schemas {
			if s.Items2020 != nil {
				items = append(items, s.Items2020)
			}
		}
		for i := range v {
			v[i] = known(v[i], items...)
		}
	case map[string]any:
		open := !slices.ContainsFunc(schemas, func(s *jsonschema.Schema) bool { return len(s.Properties) > 0 })
		for name, value := range v {
			var properties []*jsonschema.Schema
			for _, s := range schemas {
				if p, ok := s.Properties[name]; ok {
					properties = append(properties, p)
				}
				open = open || s.AdditionalProperties != nil && s.AdditionalProperties != false
			}
			if len(properties) == 0 && !open {
				delete(v, name)
				continue
			}
			v[name] = known(value, properties...)
		}
	}
	return v
}

// parts returns the schemas and, recursively, those that they refer to by $ref, allOf, anyOf and oneOf.
func parts(schemas []*jsonschema.Schema) (out []*jsonschema.Schema) {
	for _, s := range schemas {
		out = append(out, s)
		if s.Ref != nil {
			out = append(out, parts([]*jsonschema.Schema{s.Ref})...)
		}
		out = append(out, parts(slices.Concat(s.AllOf, s.AnyOf, s.OneOf))...)
	}
	return out
}

// count returns "1 item" or "2 items".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
