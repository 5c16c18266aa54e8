package rpc

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"gopkg.in/yaml.v3"

	"github.com/convoflow/convoflow/libs/fault"
)

// Access says who may call an operation: the member x-access that every operation of the contract has.
type Access string

// The values of x-access.
const (
	Anyone Access = "anyone"
	Signed Access = "signed" // a machine that signs the body, which the method itself checks
	Agent  Access = "agent"  // any logged-in agent, for its own data
	Admin  Access = "admin"
)

// operation is what the contract says of one method of one path.
type operation struct {
	access      Access
	contentType string // of the request body; empty without one
	needsBody   bool
	body        *jsonschema.Schema // nil for a body that is not checked here (multipart)
	params      []param
}

type param struct {
	in       string // path, query, header
	name     string
	required bool
	kind     string // the JSON type its text is converted to
	schema   *jsonschema.Schema
}

// document is an OpenAPI 3.1 document with its schemas compiled.
type document struct {
	operations map[string]operation // by operationId
	routes     map[string]string    // operationId to "METHOD /path"
}

type rawOperation struct {
	ID         string `yaml:"operationId"`
	Access     Access `yaml:"x-access"`
	Parameters []struct {
		Ref string `yaml:"$ref"`
	} `yaml:"parameters"`
	Body *struct {
		Required bool           `yaml:"required"`
		Content  map[string]any `yaml:"content"`
	} `yaml:"requestBody"`
}

const docURL = "convoflow:openapi"

var methods = []string{"get", "put", "post", "delete", "patch"}

// parse reads an OpenAPI document and compiles what its requests must look like. Anything it does not understand is an
// error: a contract that is only half enforced is none.
func parse(doc []byte) (*document, error) {
	var tree map[string]any
	if err := yaml.Unmarshal(doc, &tree); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	// Through JSON, because the schema compiler wants JSON's types.
	asJSON, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document as JSON: %w", err)
	}
	resource, err := jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document as JSON: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	for name, check := range formats {
		compiler.RegisterFormat(&jsonschema.Format{Name: name, Validate: check})
	}
	compiler.AssertFormat()
	if err := compiler.AddResource(docURL, resource); err != nil {
		return nil, fmt.Errorf("add the OpenAPI document: %w", err)
	}

	d := &document{operations: map[string]operation{}, routes: map[string]string{}}
	paths, _ := tree["paths"].(map[string]any)
	for path, item := range paths {
		members, _ := item.(map[string]any)
		for method, op := range members {
			if method == "summary" || method == "description" {
				continue
			}
			raw, ok := op.(map[string]any)
			if !ok || !slices.Contains(methods, method) {
				return nil, fmt.Errorf("%s: %s is not one of %s", path, method, strings.Join(methods, ", "))
			}
			at := "/paths/" + pointer(path) + "/" + method
			id, compiled, err := compile(compiler, tree, raw, at)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
			if twin := d.routes[id]; twin != "" {
				return nil, fmt.Errorf("%s %s: %s has the same operationId", method, path, twin)
			}
			d.operations[id] = compiled
			d.routes[id] = strings.ToUpper(method) + " " + path
		}
	}
	return d, nil
}

func compile(compiler *jsonschema.Compiler, tree, op map[string]any, at string) (string, operation, error) {
	var raw rawOperation
	text, err := yaml.Marshal(op)
	if err != nil {
		return "", operation{}, err
	}
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return "", operation{}, err
	}
	out := operation{access: raw.Access}
	if !slices.Contains([]Access{Anyone, Signed, Agent, Admin}, raw.Access) || raw.ID == "" {
		return "", out, errors.New("an operation needs operationId and x-access (anyone, agent or admin)")
	}
	list, _ := op["parameters"].([]any)
	for i, entry := range list {
		p, where := entry.(map[string]any), fmt.Sprintf("%s/parameters/%d", at, i)
		if ref := raw.Parameters[i].Ref; ref != "" {
			where = strings.TrimPrefix(ref, "#")
			if p, err = resolve(tree, where); err != nil {
				return "", out, err
			}
		}
		schema, err := compiler.Compile(docURL + "#" + where + "/schema")
		if err != nil {
			return "", out, err
		}
		required, _ := p["required"].(bool)
		out.params = append(out.params, param{in: fmt.Sprint(p["in"]), name: fmt.Sprint(p["name"]), required: required, kind: typeOf(schema), schema: schema})
	}
	if raw.Body == nil {
		return raw.ID, out, nil
	}
	if len(raw.Body.Content) != 1 {
		return "", out, errors.New("a request body needs exactly one content type")
	}
	for contentType := range raw.Body.Content {
		out.contentType, out.needsBody = contentType, raw.Body.Required
		if contentType == "multipart/form-data" {
			break // streamed: the method checks it
		}
		if out.body, err = compiler.Compile(docURL + "#" + at + "/requestBody/content/" + pointer(contentType) + "/schema"); err != nil {
			return "", out, err
		}
	}
	return raw.ID, out, nil
}

func resolve(tree map[string]any, at string) (map[string]any, error) {
	var node any = tree
	for _, part := range strings.Split(strings.TrimPrefix(at, "/"), "/") {
		m, ok := node.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("no %s in the document", at)
		}
		node = m[part]
	}
	m, ok := node.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("no %s in the document", at)
	}
	return m, nil
}

func pointer(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

// typeOf is the JSON type of a parameter's schema, through a $ref.
func typeOf(s *jsonschema.Schema) string {
	for s.Ref != nil {
		s = s.Ref
	}
	if s.Types == nil {
		return "string"
	}
	return slices.DeleteFunc(s.Types.ToStrings(), func(t string) bool { return t == "null" })[0]
}

// formats are the format names of the contract that the compiler does not check the way we mean them.
var formats = map[string]func(any) error{
	"uuid":      text(regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`).MatchString),
	"date-time": text(func(s string) bool { _, err := parseTime(s); return err == nil }),
	"email":     text(regexp.MustCompile(`^[^@\s<>"(),:;\\]+@[^@\s<>"(),:;\\]+\.[^@\s<>"(),:;\\.]+$`).MatchString),
}

func text(ok func(string) bool) func(any) error {
	return func(v any) error {
		if s, isText := v.(string); isText && !ok(s) {
			return errors.New("wrong format")
		}
		return nil
	}
}

// layouts are the forms of a time that apps send. One without a zone is UTC.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04", time.DateOnly}

func parseTime(s string) (time.Time, error) {
	for _, layout := range layouts {
		if t, err := time.Parse(layout, s); err == nil && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no RFC 3339 time", s)
}

// check validates a value and returns every wrong field. loc is where the value itself is.
func check(schema *jsonschema.Schema, value any, loc ...any) []fault.Field {
	fields, sane := unfit(value, slices.Clone(loc))
	if !sane {
		return fields
	}
	err := schema.Validate(value)
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		collect(invalid, value, loc, &fields)
	}
	return fields
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

// location is where something is in a value: names of fields and indexes of lists.
func location(parts []string, value any) (loc []any) {
	for _, part := range parts {
		if list, ok := value.([]any); ok {
			i, _ := strconv.Atoi(part) // the validator took it from the same list
			loc, value = append(loc, i), list[i]
			continue
		}
		object, _ := value.(map[string]any)
		loc, value = append(loc, part), object[part]
	}
	return loc
}

// describe names a problem with the words that the apps know from pydantic.
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
		return "string_too_short", fmt.Sprintf("String should have at least %d characters", k.Want)
	case *kind.MaxLength:
		return "string_too_long", fmt.Sprintf("String should have at most %d characters", k.Want)
	case *kind.MinItems:
		return "too_short", fmt.Sprintf("List should have at least %d items", k.Want)
	case *kind.MaxItems:
		return "too_long", fmt.Sprintf("List should have at most %d items", k.Want)
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

// list shows the values of an enum; null is left out, because leaving a field out says the same.
func list(values []any) string {
	var texts []string
	for _, v := range values {
		if v != nil {
			texts = append(texts, fmt.Sprint(v))
		}
	}
	return strings.Join(texts, ", ")
}

// unfit finds what nothing behind the contract can take: texts that PostgreSQL cannot keep, and numbers so large or exact
// that only looking at them is expensive. With such a number sane is false, and the value must not be looked at further.
// loc grows and shrinks on the way; what is reported has a copy of it.
func unfit(v any, loc []any) (out []fault.Field, sane bool) {
	sane = true
	inner := func(v any, at any) {
		fields, ok := unfit(v, append(loc, at))
		out, sane = append(out, fields...), sane && ok
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
	return out, sane
}

func badText(loc []any) fault.Field {
	return fault.Field{Type: "string_unicode", Loc: slices.Clone(loc), Msg: "Text should be UTF-8 without the character U+0000"}
}

// plausible reports whether a number could be a float64 that somebody wrote. 1e999999 has a million digits for the
// validator, which calculates exactly.
func plausible(n json.Number) bool {
	_, exponent, _ := strings.Cut(strings.ToLower(string(n)), "e")
	e, err := strconv.Atoi(cmp.Or(exponent, "0"))
	return err == nil && e >= -400 && e <= 400 && len(n) <= 64
}

// known keeps of a checked value what its schemas name, spelled exactly so: encoding/json would take "NAME" for "name",
// which nothing has checked. Times become RFC 3339 in UTC. An object whose schemas name no property is kept whole.
func known(v any, schemas ...*jsonschema.Schema) any {
	schemas = parts(schemas)
	switch v := v.(type) {
	case string:
		isTime := slices.ContainsFunc(schemas, func(s *jsonschema.Schema) bool { return s.Format != nil && s.Format.Name == "date-time" })
		if at, err := parseTime(v); isTime && err == nil {
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

// parts lists the schemas and those that they are made of.
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
