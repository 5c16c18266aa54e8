package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/openapi"
)

// bind returns a function that validates an HTTP request against the contract and decodes it into a struct. Fields tagged path,
// query or header are set from parameters, and those tagged json from the body (JSON or form). It reports all invalid fields
// at once, with those that also refuses (nil: none), and drops fields that the contract does not define.
func bind[Req any](op openapi.Operation, also func(context.Context, any) error) func(*http.Request) (Req, error) {
	return func(r *http.Request) (req Req, err error) {
		params, wrong := readParams(op, r)
		body, err := readBody(op, r)
		if err != nil {
			return req, err
		}
		if op.ContentType != "" && (body != nil || op.NeedsBody) {
			wrong = append(wrong, op.Body.Check(body, "body")...)
		}
		if len(wrong) > 0 {
			if also != nil {
				wrong = append(wrong, others[Req](op, r.Context(), params, body, wrong, also)...)
			}
			return req, wrongFields(wrong)
		}
		if op.ContentType != "" {
			body = op.Body.Known(body)
		}
		return req, fill(&req, params, body)
	}
}

// others returns what also refuses of a request besides the fields that are wrong by the contract, which the request is without.
func others[Req any](op openapi.Operation, ctx context.Context, params map[[2]string]any, body any, wrong []fault.Field, also func(context.Context, any) error) (more []fault.Field) {
	known := map[string]bool{}
	for _, f := range wrong {
		known[fmt.Sprint(f.Loc)] = true
		if len(f.Loc) < 2 { // the body as a whole
			continue
		}
		name, _ := f.Loc[1].(string)
		if object, ok := body.(map[string]any); ok && f.Loc[0] == "body" {
			delete(object, name)
		}
		delete(params, [2]string{fmt.Sprint(f.Loc[0]), name})
	}
	if op.ContentType != "" {
		body = op.Body.Known(body)
	}
	var req Req
	if fill(&req, params, body) != nil {
		return nil
	}
	err := also(ctx, req)
	if !fault.Is(err, fault.Invalid) {
		return nil
	}
	for _, f := range fault.Of(err).Fields {
		if !known[fmt.Sprint(f.Loc)] {
			more = append(more, f)
		}
	}
	return more
}

// wrongFields returns the fault of a request with invalid fields, sorted and without duplicates, or nil if there are none.
func wrongFields(wrong []fault.Field) error {
	if len(wrong) == 0 {
		return nil
	}
	slices.SortFunc(wrong, func(a, b fault.Field) int { return strings.Compare(fmt.Sprint(a.Loc, a), fmt.Sprint(b.Loc, b)) })
	return fault.Fields(slices.CompactFunc(wrong, func(a, b fault.Field) bool { return reflect.DeepEqual(a, b) })...)
}

// nothing is the id of no object. An id in a path that is not a UUID is replaced by it, so that the operation responds with its
// own 404.
const nothing = "00000000-0000-0000-0000-000000000000"

// readParams returns the parameters by location and name, converted to the types of the contract.
func readParams(op openapi.Operation, r *http.Request) (map[[2]string]any, []fault.Field) {
	values := map[[2]string]any{}
	var wrong []fault.Field
	query := r.URL.Query()
	for _, p := range op.Params {
		text, present := "", false
		switch p.In {
		case "path":
			text, present = r.PathValue(p.Name), true
		case "query":
			text, present = query.Get(p.Name), query.Has(p.Name)
			if present && text == "" {
				if !isText(p) { // an id that an app left empty by mistake must not select everything
					wrong = append(wrong, fault.Field{Type: "string_too_short", Loc: []any{p.In, p.Name}, Msg: "Give it a value or leave it out"})
					continue
				}
				present = false // such as a field for a search in which nothing was typed
			}
		case "header":
			text, present = r.Header.Get(p.Name), r.Header.Get(p.Name) != ""
		}
		if !present {
			if p.Required {
				wrong = append(wrong, fault.Field{Type: "missing", Loc: []any{p.In, p.Name}, Msg: "Field required"})
			} else if byDefault := p.Schema.Default(); byDefault != nil {
				values[[2]string{p.In, p.Name}] = byDefault
			}
			continue
		}
		value, typ, msg := openapi.Convert(text, p.Type)
		if typ != "" {
			wrong = append(wrong, fault.Field{Type: typ, Loc: []any{p.In, p.Name}, Msg: msg})
			continue
		}
		problems := p.Schema.Check(value, p.In, p.Name)
		if p.IsID() && len(problems) > 0 {
			value, problems = nothing, nil
		}
		wrong = append(wrong, problems...)
		values[[2]string{p.In, p.Name}] = value
	}
	return values, wrong
}

// isText reports whether a parameter takes any text, also none.
func isText(p openapi.Param) bool {
	return p.Type == "string" && len(p.Schema.Check("", p.In, p.Name)) == 0
}

// readBody decodes a JSON or URL-encoded body. It returns nil if there is no body.
func readBody(op openapi.Operation, r *http.Request) (any, error) {
	if op.ContentType == "" {
		return nil, nil
	}
	x := exchangeOf(r.Context())
	raw, err := x.buffer.ReadAll(r.Body, r.ContentLength)
	if err != nil {
		return nil, unreadable(err)
	}
	x.fingerprint = raw
	if len(bytes.TrimSpace(raw)) == 0 && !op.NeedsBody {
		return nil, nil
	}
	return decodeBody(op, r.Header.Get("Content-Type"), raw)
}

// DecodeBody decodes the JSON body of an operation into a struct, for a handler that no Router calls. Its errors are those of a Router.
func DecodeBody(op openapi.Operation, r *http.Request, into any) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return unreadable(err)
	}
	body, err := decodeBody(op, r.Header.Get("Content-Type"), raw)
	if err != nil {
		return err
	}
	if wrong := op.Body.Check(body, "body"); len(wrong) > 0 {
		return fault.Fields(wrong...)
	}
	return json.Unmarshal(raw, into)
}

func decodeBody(op openapi.Operation, contentType string, raw []byte) (any, error) {
	sent, _, err := mime.ParseMediaType(contentType)
	if err != nil || sent != op.ContentType {
		return nil, unsupported(op)
	}
	if op.ContentType == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(raw))
		if err != nil {
			return nil, fault.New(fault.Malformed, "malformed_form", "The body is not a form")
		}
		body := map[string]any{}
		for name := range form {
			body[name] = form.Get(name)
		}
		return body, nil
	}
	if !utf8.Valid(raw) { // the decoder would replace invalid bytes silently
		return nil, fault.Fields(fault.Field{Type: "string_unicode", Loc: []any{"body"}, Msg: "Text should be UTF-8 without the character U+0000"})
	}
	if depth(raw) > maxDepth {
		return nil, fault.New(fault.Malformed, "malformed_json", fmt.Sprintf("The body is nested over %d levels deep", maxDepth))
	}
	body, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, fault.New(fault.Malformed, "malformed_json", "The body is not JSON")
	}
	return body, nil
}

// unreadable returns the fault for a body that could not be read completely.
func unreadable(err error) error {
	var tooLarge *http.MaxBytesError
	var refused *fault.Error
	if errors.As(err, &refused) {
		return refused // beyond the Budget
	}
	if errors.As(err, &tooLarge) {
		return fault.New(fault.TooLarge, "body_too_large", fmt.Sprintf("The body is over %d bytes", tooLarge.Limit))
	}
	return fault.Wrap(err, fault.Malformed, "body_cut", "The body ended before it was complete")
}

func unsupported(op openapi.Operation) error {
	return fault.New(fault.Unsupported, "unsupported_content_type", "Send Content-Type: "+op.ContentType)
}

// maxDepth is the maximum nesting depth of JSON. The deepest request of the contract has three levels, and parsers recurse.
const maxDepth = 64

// depth returns the nesting depth of brackets outside of strings.
func depth(raw []byte) (deepest int) {
	inText, level := false, 0
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}

// fill decodes the body into the struct and sets the tagged parameters, including those of embedded structs. It does nothing if
// the request type is not a struct.
func fill(req any, params map[[2]string]any, body any) error {
	v := reflect.ValueOf(req).Elem()
	if v.Kind() != reflect.Struct {
		return nil
	}
	if object, ok := body.(map[string]any); ok {
		raw, err := json.Marshal(object)
		if err != nil {
			return fmt.Errorf("marshal the validated body: %w", err)
		}
		if err := json.Unmarshal(raw, req); err != nil {
			// The contract allows values that the field cannot hold, such as a number over 64 bits.
			return fault.Fields(fault.Field{Type: "value_error", Loc: []any{"body"}, Msg: "A value is out of range"})
		}
	}
	for _, field := range reflect.VisibleFields(v.Type()) {
		for _, in := range []string{"path", "query", "header"} {
			value, ok := params[[2]string{in, field.Tag.Get(in)}]
			if !ok {
				continue
			}
			if err := set(v.FieldByIndex(field.Index), value); err != nil {
				return fault.Fields(fault.Field{Type: "value_error", Loc: []any{in, field.Tag.Get(in)}, Msg: "The value is out of range"})
			}
		}
	}
	return nil
}

// set sets a field to a parameter's value. The field is a text, number, boolean or time, or a pointer to one.
func set(field reflect.Value, value any) error {
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	if text, ok := value.(string); ok && field.Type() == reflect.TypeFor[time.Time]() {
		t, err := openapi.ParseTime(text)
		field.Set(reflect.ValueOf(t))
		return err
	}
	if text, ok := value.(string); ok && field.Kind() == reflect.String {
		field.SetString(text)
		return nil
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, field.Addr().Interface())
}
