package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/convoflow/convoflow/libs/fault"
)

// bind makes a request struct out of an HTTP request that the contract accepts. Fields tagged path, query or header come
// from there, those tagged json from the body (JSON or form). Every wrong field is reported at once. What the contract
// does not know never reaches the struct.
func bind[Req any](op operation) func(*http.Request) (Req, error) {
	return func(r *http.Request) (req Req, err error) {
		params, wrong := readParams(op, r)
		body, err := readBody(op, r)
		if err != nil {
			return req, err
		}
		if op.body != nil && (body != nil || op.needsBody) {
			wrong = append(wrong, check(op.body, body, "body")...)
		}
		if len(wrong) > 0 {
			slices.SortFunc(wrong, func(a, b fault.Field) int { return strings.Compare(fmt.Sprint(a.Loc, a), fmt.Sprint(b.Loc, b)) })
			return req, fault.Fields(slices.CompactFunc(wrong, func(a, b fault.Field) bool { return reflect.DeepEqual(a, b) })...)
		}
		if op.body != nil {
			body = known(body, op.body)
		}
		return req, fill(&req, params, body)
	}
}

// readParams returns the parameters by place and name, with their texts converted to what the contract says they are.
func readParams(op operation, r *http.Request) (map[[2]string]any, []fault.Field) {
	values := map[[2]string]any{}
	var wrong []fault.Field
	query := r.URL.Query()
	for _, p := range op.params {
		text, there := "", false
		switch p.in {
		case "path":
			text, there = r.PathValue(p.name), true
		case "query":
			text, there = query.Get(p.name), query.Get(p.name) != ""
		case "header":
			text, there = r.Header.Get(p.name), r.Header.Get(p.name) != ""
		}
		if !there {
			if p.required {
				wrong = append(wrong, fault.Field{Type: "missing", Loc: []any{p.in, p.name}, Msg: "Field required"})
			}
			continue
		}
		value, typ, msg := convert(text, p.kind)
		if typ != "" {
			wrong = append(wrong, fault.Field{Type: typ, Loc: []any{p.in, p.name}, Msg: msg})
			continue
		}
		wrong = append(wrong, check(p.schema, value, p.in, p.name)...)
		values[[2]string{p.in, p.name}] = value
	}
	return values, wrong
}

func convert(text, kind string) (value any, typ, msg string) {
	switch kind {
	case "integer":
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			return nil, "int_parsing", "Input should be a valid integer"
		}
		return json.Number(text), "", ""
	case "number":
		if f, err := strconv.ParseFloat(text, 64); err != nil || f != f || f > 1e300 || f < -1e300 {
			return nil, "float_parsing", "Input should be a valid number"
		}
		return json.Number(text), "", ""
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

// readBody reads a JSON or form body into plain values. It is nil without a body.
func readBody(op operation, r *http.Request) (any, error) {
	if op.contentType == "" || op.body == nil {
		return nil, nil
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, fault.New(fault.TooLarge, "body_too_large", fmt.Sprintf("The body is over %d bytes", tooLarge.Limit))
		}
		return nil, fault.Wrap(err, fault.Malformed, "body_cut", "The body ended before it was complete")
	}
	exchangeOf(r.Context()).body = raw
	if len(bytes.TrimSpace(raw)) == 0 && !op.needsBody {
		return nil, nil
	}
	sent, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || sent != op.contentType {
		return nil, fault.New(fault.Unsupported, "unsupported_content_type", "Send Content-Type: "+op.contentType)
	}
	if op.contentType == "application/x-www-form-urlencoded" {
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
	if !utf8.Valid(raw) {
		return nil, fault.Fields(badText([]any{"body"})) // the decoder would replace it silently
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

// maxDepth is how deep JSON may be nested: ours has three levels, and what walks it recurses.
const maxDepth = 64

// depth is how deep brackets are nested outside of texts.
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

// fill decodes the body into the struct and sets the tagged parameters. A type other than a struct has no fields to set.
func fill(req any, params map[[2]string]any, body any) error {
	v := reflect.ValueOf(req).Elem()
	if v.Kind() != reflect.Struct {
		return nil
	}
	if object, ok := body.(map[string]any); ok {
		raw, err := json.Marshal(object)
		if err != nil {
			return fmt.Errorf("marshal the checked body: %w", err)
		}
		if err := json.Unmarshal(raw, req); err != nil {
			// The contract accepts more than the field holds: a number beyond 64 bits.
			return fault.Fields(fault.Field{Type: "value_error", Loc: []any{"body"}, Msg: "A value is out of range"})
		}
	}
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		for _, in := range []string{"path", "query", "header"} {
			value, ok := params[[2]string{in, tag.Get(in)}]
			if !ok {
				continue
			}
			if err := set(v.Field(i), value); err != nil {
				return fault.Fields(fault.Field{Type: "value_error", Loc: []any{in, tag.Get(in)}, Msg: "The value is out of range"})
			}
		}
	}
	return nil
}

// set gives a field a parameter's value: text, number, boolean or time, or a pointer to one.
func set(field reflect.Value, value any) error {
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	if text, ok := value.(string); ok && field.Type() == reflect.TypeFor[time.Time]() {
		t, err := parseTime(text)
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
