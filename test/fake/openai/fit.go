package openai

import (
	"math"
	"slices"
	"strings"
)

// fitter builds a value that is valid for a schema that passed checkStrict, as close to a sample as the schema allows.
type fitter struct{ root map[string]any }

func (f fitter) fit(schema map[string]any, sample any) any {
	if ref, ok := schema["$ref"].(string); ok {
		return f.fit(f.resolve(ref), sample)
	}
	if value, ok := schema["const"]; ok {
		return value
	}
	if values, ok := schema["enum"].([]any); ok {
		if slices.Contains(values, sample) {
			return sample
		}
		return values[0]
	}
	if branches, ok := schema["anyOf"].([]any); ok {
		return f.fit(f.branch(branches, sample), sample)
	}
	return f.fitType(schema, sample)
}

func (f fitter) fitType(schema map[string]any, sample any) any {
	kind := types(schema)[0]
	if slices.Contains(types(schema), typeOf(sample)) {
		kind = typeOf(sample)
	}
	switch kind {
	case "object":
		return f.fitObject(schema, sample)
	case "array":
		return f.fitArray(schema, sample)
	case "string":
		if text, ok := sample.(string); ok {
			return text
		}
		return text(schema)
	case "integer":
		number, _ := sample.(float64)
		return within(schema, math.Round(number))
	case "number":
		number, _ := sample.(float64)
		return within(schema, number)
	case "boolean":
		return sample == true
	}
	return nil
}

func (f fitter) fitObject(schema map[string]any, sample any) any {
	from, _ := sample.(map[string]any)
	properties, _ := schema["properties"].(map[string]any)
	object := map[string]any{}
	for name, property := range properties {
		object[name] = f.fit(property.(map[string]any), from[name])
	}
	return object
}

func (f fitter) fitArray(schema map[string]any, sample any) any {
	from, _ := sample.([]any)
	least, _ := schema["minItems"].(float64)
	if most, ok := schema["maxItems"].(float64); ok {
		from = from[:min(len(from), int(most))]
	}
	items := schema["items"].(map[string]any)
	array := []any{}
	for _, item := range from {
		array = append(array, f.fit(items, item))
	}
	for len(array) < int(least) {
		array = append(array, f.fit(items, nil))
	}
	return array
}

// branch returns the first of anyOf with the sample's type, else the first.
func (f fitter) branch(branches []any, sample any) map[string]any {
	for _, b := range branches {
		branch := b.(map[string]any)
		if ref, ok := branch["$ref"].(string); ok {
			branch = f.resolve(ref)
		}
		if hasType(branch, typeOf(sample)) {
			return branch
		}
	}
	return branches[0].(map[string]any)
}

func (f fitter) resolve(ref string) map[string]any {
	node := f.root
	for step := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(ref, "#"), "/"), "/") {
		if next, ok := node[step].(map[string]any); ok {
			node = next
		}
	}
	return node
}

func typeOf(v any) string {
	switch v.(type) {
	case map[string]any:
		return "object"
	case []any:
		return "array"
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	}
	return "null"
}

func within(schema map[string]any, number float64) float64 {
	if least, ok := schema["minimum"].(float64); ok {
		number = max(number, least)
	}
	if most, ok := schema["maximum"].(float64); ok {
		number = min(number, most)
	}
	return number
}

func text(schema map[string]any) string {
	if schema["format"] == "date-time" {
		return "2026-01-02T10:00:00Z"
	}
	return "something"
}
