package pabbly

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// maxBody is the largest payload that events.md promises, in bytes.
const maxBody = 20_000

// shape is the keys of the first delivery of an event type, from which Pabbly maps fields.
type shape []string

func checkHeader(h http.Header) []string {
	var problems []string
	if got := h.Get("Content-Type"); got != "application/json" {
		problems = append(problems, problem("Content-Type is %q", got)...)
	}
	if got := h.Get("User-Agent"); !strings.HasPrefix(got, "Convoflow/") {
		problems = append(problems, problem("User-Agent is %q", got)...)
	}
	if h.Get("X-Pabbly-Event") == "" {
		problems = append(problems, "X-Pabbly-Event is missing")
	}
	if h.Get("traceparent") == "" {
		problems = append(problems, "traceparent is missing")
	}
	return problems
}

// checkBody validates the body of d against the contract of its profile and sets its EventID.
func (s *Server) checkBody(d *Delivery) []string {
	var fields map[string]any
	if err := json.Unmarshal(d.Body, &fields); err != nil {
		return problem("the body is not a JSON object: %v", err)
	}
	problems := checkCanonical(d.Body)
	if len(d.Body) > maxBody {
		problems = append(problems, problem("the body has %d bytes", len(d.Body))...)
	}
	id := d.Header.Get("webhook-id")
	if _, standard := fields["data"].(map[string]any); standard {
		d.EventID = id
		return append(problems, checkStandard(fields, d.Event)...)
	}
	d.EventID, _ = fields["event_id"].(string)
	problems = append(problems, checkFlat(fields, d.Event)...)
	problems = append(problems, s.checkKeys(fields, d.Event)...)
	if first, seen := s.ids[d.EventID]; seen && first != id {
		problems = append(problems, problem("webhook-id was %q on an earlier attempt and is %q", first, id)...)
	}
	s.ids[d.EventID] = id
	return problems
}

// checkFlat validates the pabbly profile: scalars and arrays of scalars, and each array also as text.
func checkFlat(fields map[string]any, event string) []string {
	var problems []string
	for _, required := range []string{"event_id", "timestamp"} {
		if s, _ := fields[required].(string); s == "" {
			problems = append(problems, required+" is missing")
		}
	}
	if fields["event"] != event {
		problems = append(problems, problem("event is %v and X-Pabbly-Event %q", fields["event"], event)...)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		array, isArray := fields[key].([]any)
		_, hasText := fields[key+"_text"].(string)
		switch {
		case !isArray && !scalar(fields[key]):
			problems = append(problems, key+" is an object")
		case slices.ContainsFunc(array, func(v any) bool { return !scalar(v) }):
			problems = append(problems, key+" holds more than scalars")
		case isArray && !hasText:
			problems = append(problems, key+" has no "+key+"_text")
		}
	}
	return problems
}

// checkStandard validates the standard profile: type, timestamp, data.
func checkStandard(fields map[string]any, event string) []string {
	if keys := slices.Sorted(maps.Keys(fields)); !slices.Equal(keys, []string{"data", "timestamp", "type"}) {
		return problem("keys are %v", keys)
	}
	if fields["type"] != event {
		return problem("type is %v and X-Pabbly-Event %q", fields["type"], event)
	}
	return nil
}

func (s *Server) checkKeys(fields map[string]any, event string) []string {
	keys := shape(slices.Sorted(maps.Keys(fields)))
	first, seen := s.first[event]
	if !seen {
		s.first[event] = keys
		return nil
	}
	if !slices.Equal(first, keys) {
		return problem("keys are %v and were %v at first", keys, first)
	}
	return nil
}

// checkCanonical reports spaces between tokens and keys that are not in byte order or are duplicates. Strings may be escaped in
// any way.
func checkCanonical(body []byte) []string {
	var problems []string
	var compact bytes.Buffer
	if err := json.Compact(&compact, body); err != nil || !bytes.Equal(compact.Bytes(), body) {
		problems = append(problems, "the body has spaces between tokens")
	}
	if err := sorted(json.NewDecoder(bytes.NewReader(body))); err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

// sorted reads one value and reports a key that is out of order.
func sorted(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	open, isOpen := token.(json.Delim)
	if !isOpen {
		return nil
	}
	last, seen := "", false
	for d.More() {
		if open == '{' {
			token, err := d.Token()
			if err != nil {
				return fmt.Errorf("read the body: %w", err)
			}
			key, _ := token.(string)
			if seen && key <= last {
				return fmt.Errorf("key %s comes after %s", key, last)
			}
			last, seen = key, true
		}
		if err := sorted(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

func scalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}
