package offline

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// maxDepth ends schemas that refer to themselves.
const maxDepth = 8

// fill answers a JSON schema: each property that is a field of an insight gets that field where the schema allows its
// value, all others the plainest value that the schema allows. What it returns is valid, else it returns a problem.
func fill(schema json.RawMessage, i insight) (string, error) {
	root, err := compile(schema)
	if err != nil {
		return "", invalid("invalid_json_schema", "response_format.json_schema.schema is not a JSON schema")
	}
	known, err := i.fields()
	if err != nil {
		return "", err
	}
	value := known.plainest(root, 0)
	if err := root.Validate(value); err != nil {
		return "", invalid("unsupported_schema", "the offline server finds no answer to this schema")
	}
	b, err := json.Marshal(value)
	return string(b), err
}

func compile(schema json.RawMessage) (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nothing{})
	if err := c.AddResource("question.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("question.json")
}

// nothing is what a schema may load: by default it could read this machine's files.
type nothing struct{}

func (nothing) Load(string) (any, error) { return nil, errors.New("a schema must stand alone") }

// fields are the fields of an insight, as decoded JSON.
type fields map[string]any

func (i insight) fields() (fields, error) {
	b, err := json.Marshal(i)
	if err != nil {
		return nil, err
	}
	var f fields
	return f, json.Unmarshal(b, &f)
}

// property is the value for a property of an object.
func (f fields) property(name string, s *jsonschema.Schema, depth int) any {
	if value, ok := f[name]; ok {
		if value = cut(s, value); s.Validate(value) == nil {
			return value
		}
	}
	return f.plainest(s, depth)
}

// plainest is null where the schema allows it, else the first of its choices, else an empty value of its type.
func (f fields) plainest(s *jsonschema.Schema, depth int) any {
	switch {
	case s == nil || depth > maxDepth:
		return nil
	case s.Properties == nil && s.Validate(nil) == nil:
		return nil
	case s.Ref != nil:
		return f.plainest(s.Ref, depth+1)
	case s.Const != nil:
		return *s.Const
	case s.Enum != nil && len(s.Enum.Values) > 0:
		return s.Enum.Values[0]
	}
	for _, choices := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		if len(choices) > 0 {
			return f.plainest(choices[0], depth+1)
		}
	}
	return f.empty(s, depth)
}

func (f fields) empty(s *jsonschema.Schema, depth int) any {
	switch kind(s) {
	case "object":
		object := map[string]any{}
		for name, property := range s.Properties {
			object[name] = f.property(name, property, depth+1)
		}
		return object
	case "array":
		list := []any{}
		for s.MinItems != nil && len(list) < min(*s.MinItems, 100) {
			list = append(list, f.plainest(s.Items2020, depth+1))
		}
		return list
	case "string":
		if s.MinLength == nil {
			return ""
		}
		return strings.Repeat("-", min(*s.MinLength, 1000))
	case "number", "integer":
		if s.Minimum == nil {
			return 0.0
		}
		n, _ := s.Minimum.Float64()
		return n
	case "boolean":
		return false
	}
	return nil
}

func kind(s *jsonschema.Schema) string {
	if s.Properties != nil {
		return "object"
	}
	if s.Types == nil || s.Types.IsEmpty() {
		return ""
	}
	return s.Types.ToStrings()[0]
}

// cut shortens texts and lists to what the schema allows.
func cut(s *jsonschema.Schema, value any) any {
	switch v := value.(type) {
	case string:
		if letters := []rune(v); s.MaxLength != nil && len(letters) > *s.MaxLength {
			return strings.TrimSpace(string(letters[:*s.MaxLength]))
		}
	case []any:
		if s.MaxItems != nil && len(v) > *s.MaxItems {
			v = v[:*s.MaxItems]
		}
		for i := range v {
			if s.Items2020 != nil {
				v[i] = cut(s.Items2020, v[i])
			}
		}
		return v
	}
	return value
}
