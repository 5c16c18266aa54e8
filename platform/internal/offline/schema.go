package offline

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// maxDepth limits the recursion for schemas that refer to themselves.
const maxDepth = 8

// fill returns JSON that is valid for the schema. A property with the name of an insight's field gets that field's value if the
// schema allows it; all others get the simplest allowed value. It fails with a problem if it finds no valid value.
func fill(schema json.RawMessage, i insight) (string, error) {
	root, err := compile(schema)
	if err != nil {
		return "", invalid("invalid_json_schema", "response_format.json_schema.schema is not a JSON schema")
	}
	known, err := i.fields()
	if err != nil {
		return "", err
	}
	value := known.simplest(root, 0)
	if err := root.Validate(value); err != nil {
		return "", invalid("unsupported_schema", "the offline server finds no value for this schema")
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
	c.UseLoader(noLoader{})
	if err := c.AddResource("request.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("request.json")
}

// noLoader refuses to load other schemas: the default loader could read local files.
type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errors.New("a schema must be self-contained") }

// fields are the fields of an insight as decoded JSON.
type fields map[string]any

func (i insight) fields() (fields, error) {
	b, err := json.Marshal(i)
	if err != nil {
		return nil, err
	}
	var f fields
	return f, json.Unmarshal(b, &f)
}

// property returns the value for a property of an object.
func (f fields) property(name string, s *jsonschema.Schema, depth int) any {
	if value, ok := f[name]; ok {
		if value = truncate(s, value); s.Validate(value) == nil {
			return value
		}
	}
	return f.simplest(s, depth)
}

// simplest returns null if the schema allows it, else the schema's first alternative, else an empty value of its type.
func (f fields) simplest(s *jsonschema.Schema, depth int) any {
	switch {
	case s == nil || depth > maxDepth:
		return nil
	case s.Properties == nil && s.Validate(nil) == nil:
		return nil
	case s.Ref != nil:
		return f.simplest(s.Ref, depth+1)
	case s.Const != nil:
		return *s.Const
	case s.Enum != nil && len(s.Enum.Values) > 0:
		return s.Enum.Values[0]
	}
	for _, choices := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		if len(choices) > 0 {
			return f.simplest(choices[0], depth+1)
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
			list = append(list, f.simplest(s.Items2020, depth+1))
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

// truncate shortens texts and lists to the lengths that the schema allows.
func truncate(s *jsonschema.Schema, value any) any {
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
				v[i] = truncate(s.Items2020, v[i])
			}
		}
		return v
	}
	return value
}
