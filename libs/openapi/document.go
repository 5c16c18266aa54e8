// Package openapi parses the OpenAPI 3.1 document of a service: its operations, who may call them, and the schemas of their
// requests. It refuses a document with parts that it does not support, because it could not enforce them.
package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// Access says who may call an operation: the member x-access.
type Access string

// The values of x-access.
const (
	Anyone Access = "anyone"
	Signed Access = "signed" // a machine that signs the body; the method verifies the signature
	Link   Access = "link"   // an agent, or anybody with a link: a token in the query, which the method verifies
	Agent  Access = "agent"  // any authenticated agent, for its own data
	Admin  Access = "admin"
)

// LinkToken is the query parameter of a link.
const LinkToken = "token"

// Class groups operations that share a rate limit: the member x-class. The default is Read for GET and Write otherwise.
type Class string

// The values of x-class.
const (
	Login     Class = "login" // limited by IP address alone: callers are not authenticated yet, and may be guessing passwords
	Upload    Class = "upload"
	Read      Class = "read"
	Write     Class = "write"
	Analytics Class = "analytics"
	Inbound   Class = "inbound" // limited by IP address alone: an automation sends what it gets for a whole team, signed
)

const (
	// DefaultBody is the maximum size of a request body in bytes unless x-body sets one.
	DefaultBody = 1 << 20
	// AnonymousBody is the default instead of DefaultBody for operations that need no token. Anyone may send as many of those
	// bodies as the rate limit allows, so x-body must not be larger for an operation that is open to anyone.
	AnonymousBody = 16 << 10
	// DefaultTimeout is the timeout of an operation unless x-timeout sets one.
	DefaultTimeout = 20 * time.Second
	// Streamed is the value of Timeout for x-timeout: none. The exchange may last as long as data is transferred.
	Streamed = 0
)

// Operation is one method of one path in the document.
type Operation struct {
	ID          string // operationId, <service>.<verb>
	Method      string
	Path        string // /calls/{id}
	Access      Access
	Class       Class
	MaxBody     int64         // bytes; 0 if x-body is the name of a limit
	BodyLimit   string        // that name; the limit itself is a setting of who serves the form
	Timeout     time.Duration // or Streamed
	ContentType string        // of the request body; empty without one
	NeedsBody   bool
	Body        Schema  // of the request body; empty without one
	Params      []Param // path, query and header
}

// Pattern returns the operation's pattern for net/http's ServeMux, such as "GET /calls/{id}".
func (o Operation) Pattern() string { return o.Method + " " + o.Path }

// Param is one parameter of an operation.
type Param struct {
	In       string // path, query, header
	Name     string
	Required bool
	Type     string // the JSON type to which its text is converted
	Schema   Schema
}

// IsID reports whether the parameter is a UUID in the path.
func (p Param) IsID() bool { return p.In == "path" && p.Schema.isUUID() }

// multipart is the content type of forms with files. A property with the format binary is a file.
const multipart = "multipart/form-data"

// IsForm reports whether the operation takes a form with files.
func (o Operation) IsForm() bool { return o.ContentType == multipart }

const docURL = "convoflow:openapi"

// methods are the supported operations of a path item.
var methods = []string{"get", "put", "post", "delete", "patch"}

// document is the part of an OpenAPI document that is read besides its schemas. A path item also has members that are no operations.
type document struct {
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Parameters map[string]rawParam `json:"parameters"`
	} `json:"components"`
}

// Parse parses a document, in YAML or JSON, and returns its operations by operationId. It fails if any part is not supported.
func Parse(doc []byte) (map[string]Operation, error) {
	asJSON, err := toJSON(doc)
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	var parsed document
	if err := json.Unmarshal(asJSON, &parsed); err != nil {
		return nil, fmt.Errorf("read the paths of the OpenAPI document: %w", err)
	}
	compiler, err := newCompiler(asJSON)
	if err != nil {
		return nil, err
	}
	operations := map[string]Operation{}
	for path, members := range parsed.Paths {
		for method, op := range members {
			if method == "summary" || method == "description" {
				continue
			}
			if !slices.Contains(methods, method) {
				return nil, fmt.Errorf("%s: %s is not one of %s", path, method, strings.Join(methods, ", "))
			}
			r := reader{compiler: compiler, doc: parsed, at: "/paths/" + pointer(path) + "/" + method}
			o, err := r.operation(strings.ToUpper(method), path, op)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
			if twin, ok := operations[o.ID]; ok {
				return nil, fmt.Errorf("%s: %s has the same operationId", o.Pattern(), twin.Pattern())
			}
			operations[o.ID] = o
		}
	}
	return operations, nil
}

// toJSON converts a document in YAML. One in JSON is not parsed as YAML, which it also is: that takes ten times as long.
func toJSON(doc []byte) ([]byte, error) {
	if json.Valid(doc) {
		return doc, nil
	}
	var tree map[string]any
	if err := yaml.Unmarshal(doc, &tree); err != nil {
		return nil, err
	}
	return json.Marshal(tree)
}

func newCompiler(doc []byte) (*jsonschema.Compiler, error) {
	resource, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc)) // numbers are not float64
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
	return compiler, nil
}

// reader parses one operation.
type reader struct {
	compiler *jsonschema.Compiler
	doc      document
	at       string // the operation's JSON pointer
}

// rawOperation is an operation as written in the document.
type rawOperation struct {
	ID         string     `json:"operationId"`
	Access     Access     `json:"x-access"`
	Class      Class      `json:"x-class"`
	MaxBody    any        `json:"x-body"`
	Timeout    any        `json:"x-timeout"`
	Parameters []rawParam `json:"parameters"`
	Body       *struct {
		Required bool           `json:"required"`
		Content  map[string]any `json:"content"`
	} `json:"requestBody"`
}

// rawParam is a parameter as written in the document, or a reference to one.
type rawParam struct {
	Ref      string `json:"$ref"`
	In       string `json:"in"`
	Name     string `json:"name"`
	Required bool   `json:"required"`
}

func (r reader) operation(method, path string, op json.RawMessage) (o Operation, err error) {
	var raw rawOperation
	if err := json.Unmarshal(op, &raw); err != nil {
		return o, err
	}
	if !slices.Contains([]Access{Anyone, Signed, Link, Agent, Admin}, raw.Access) || raw.ID == "" {
		return o, errors.New("an operation needs operationId and x-access (anyone, signed, link, agent or admin)")
	}
	o = Operation{ID: raw.ID, Method: method, Path: path, Access: raw.Access, Class: raw.Class}
	if o.Class == "" {
		o.Class = Write
		if method == http.MethodGet {
			o.Class = Read
		}
	}
	if !slices.Contains([]Class{Login, Upload, Read, Write, Analytics, Inbound}, o.Class) {
		return o, fmt.Errorf("x-class %q is not login, upload, read, write, analytics or inbound", o.Class)
	}
	if o.Class == Inbound && o.Access != Signed {
		return o, errors.New("x-class inbound has room for an automation, and is only for operations with x-access signed")
	}
	byDefault := int64(DefaultBody)
	if o.Access == Anyone || o.Access == Signed {
		byDefault = AnonymousBody
	}
	if o.MaxBody, o.BodyLimit, err = maxBody(raw.MaxBody, byDefault); err != nil {
		return o, err
	}
	if o.Access == Anyone && (o.MaxBody > AnonymousBody || o.BodyLimit != "") {
		return o, fmt.Errorf("x-body is over %d bytes although anyone may call the operation", AnonymousBody)
	}
	if o.BodyLimit != "" && (raw.Body == nil || raw.Body.Content[multipart] == nil) {
		return o, fmt.Errorf("x-body %s: only a form may name a limit, write a number of bytes", o.BodyLimit)
	}
	if o.Timeout, err = timeout(raw.Timeout); err != nil {
		return o, err
	}
	if o.Params, err = r.params(raw.Parameters); err != nil || raw.Body == nil {
		return o, err
	}
	if len(raw.Body.Content) != 1 {
		return o, errors.New("a request body needs exactly one content type")
	}
	o.ContentType = slices.Collect(maps.Keys(raw.Body.Content))[0]
	o.NeedsBody = raw.Body.Required
	o.Body, err = r.schema(r.at + "/requestBody/content/" + pointer(o.ContentType) + "/schema")
	return o, err
}

// maxBody reads x-body: a number of bytes, or the name of a limit.
func maxBody(raw any, byDefault int64) (bytes int64, limit string, err error) {
	switch raw := raw.(type) {
	case nil:
		return byDefault, "", nil
	case float64:
		if n := int64(raw); n > 0 && float64(n) == raw {
			return n, "", nil
		}
	case string:
		if raw != "" {
			return 0, raw, nil
		}
	}
	return 0, "", fmt.Errorf("x-body %v is neither a number of bytes nor the name of a limit", raw)
}

func timeout(raw any) (time.Duration, error) {
	switch raw := raw.(type) {
	case nil:
		return DefaultTimeout, nil
	case float64:
		if raw > 0 {
			return time.Duration(raw * float64(time.Second)), nil
		}
	case string:
		if raw == "none" {
			return Streamed, nil
		}
	}
	return 0, fmt.Errorf("x-timeout %v is neither a number of seconds nor none", raw)
}

func (r reader) params(list []rawParam) (out []Param, err error) {
	for i, p := range list {
		where := fmt.Sprintf("%s/parameters/%d", r.at, i)
		if p.Ref != "" {
			known := false
			if p, known = r.doc.Components.Parameters[strings.TrimPrefix(p.Ref, "#/components/parameters/")]; !known {
				return nil, fmt.Errorf("no %s in the document", list[i].Ref)
			}
			where = strings.TrimPrefix(list[i].Ref, "#")
		}
		schema, err := r.schema(where + "/schema")
		if err != nil {
			return nil, err
		}
		out = append(out, Param{In: p.In, Name: p.Name, Required: p.Required, Type: typeOf(schema.compiled), Schema: schema})
	}
	return out, nil
}

func (r reader) schema(at string) (Schema, error) {
	compiled, err := r.compiler.Compile(docURL + "#" + at)
	return Schema{compiled}, err
}

func pointer(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

// typeOf returns the JSON type of a parameter's schema. It follows $ref.
func typeOf(s *jsonschema.Schema) string {
	for s.Ref != nil {
		s = s.Ref
	}
	if s.Types == nil {
		return "string"
	}
	return slices.DeleteFunc(s.Types.ToStrings(), func(t string) bool { return t == "null" })[0]
}
