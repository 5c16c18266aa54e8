package openai

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxDepth is the maximum nesting of objects that OpenAI allows.
const maxDepth = 10

// checkStrict validates a schema by the rules of strict Structured Outputs,
// https://platform.openai.com/docs/guides/structured-outputs: only documented keywords, an object at the root,
// additionalProperties false and every property required in each object. It returns the problem in OpenAI's words, empty if
// there is none.
func checkStrict(schema map[string]any) string {
	if schema["type"] != "object" {
		return fmt.Sprintf("schema must be a JSON Schema of 'type: \"object\"', got 'type: %q'.", fmt.Sprint(schema["type"]))
	}
	return checkNode(schema, nil, 0)
}

func checkNode(schema map[string]any, at []string, depth int) string {
	where := position(at)
	for _, keyword := range slices.Sorted(maps.Keys(schema)) {
		if !slices.Contains(keywords(), keyword) {
			return where + "'" + keyword + "' is not permitted."
		}
	}
	if _, union := schema["anyOf"]; union && len(at) == 0 {
		return where + "'anyOf' is not permitted."
	}
	properties, isObject := schema["properties"].(map[string]any)
	if isObject || hasType(schema, "object") {
		depth++
		if problem := checkObject(schema, properties, where); problem != "" {
			return problem
		}
	}
	if depth > maxDepth {
		return fmt.Sprintf("%d levels of nesting exceeds limit of %d.", depth, maxDepth)
	}
	if _, ok := schema["items"].(map[string]any); !ok && hasType(schema, "array") {
		return where + "array schema missing items."
	}
	return checkChildren(schema, properties, at, depth)
}

func checkObject(schema, properties map[string]any, where string) string {
	if schema["additionalProperties"] != false {
		return where + "'additionalProperties' is required to be supplied and to be false."
	}
	required, _ := schema["required"].([]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if !slices.Contains(required, any(name)) {
			return where + "'required' is required to be supplied and to be an array including every key in properties. Missing '" + name + "'."
		}
	}
	for _, name := range required {
		if _, ok := properties[fmt.Sprint(name)]; !ok {
			return fmt.Sprintf("%s'required' names '%v', which is no property.", where, name)
		}
	}
	return ""
}

func checkChildren(schema, properties map[string]any, at []string, depth int) string {
	defs, _ := schema["$defs"].(map[string]any)
	for keyword, children := range map[string]map[string]any{"properties": properties, "$defs": defs} {
		for _, name := range slices.Sorted(maps.Keys(children)) {
			if problem := checkChild(children[name], append(slices.Clone(at), keyword, name), depth); problem != "" {
				return problem
			}
		}
	}
	if items, ok := schema["items"]; ok {
		if problem := checkChild(items, append(slices.Clone(at), "items"), depth); problem != "" {
			return problem
		}
	}
	branches, _ := schema["anyOf"].([]any)
	for i, branch := range branches {
		if problem := checkChild(branch, append(slices.Clone(at), "anyOf", fmt.Sprint(i)), depth); problem != "" {
			return problem
		}
	}
	return ""
}

func checkChild(child any, at []string, depth int) string {
	schema, ok := child.(map[string]any)
	if !ok {
		return position(at) + "schema must be an object."
	}
	for _, oneOf := range []string{"type", "anyOf", "$ref", "enum", "const"} {
		if _, ok := schema[oneOf]; ok {
			return checkNode(schema, at, depth)
		}
	}
	return position(at) + "schema must have a 'type' key."
}

// position formats a location as OpenAI does: In context=('properties', 'name').
func position(at []string) string {
	quoted := make([]string, len(at))
	for i, step := range at {
		quoted[i] = "'" + step + "'"
	}
	return "In context=(" + strings.Join(quoted, ", ") + "), "
}

func hasType(schema map[string]any, name string) bool { return slices.Contains(types(schema), name) }

func types(schema map[string]any) []string {
	switch t := schema["type"].(type) {
	case string:
		return []string{t}
	case []any:
		var list []string
		for _, name := range t {
			list = append(list, fmt.Sprint(name))
		}
		return list
	}
	return nil
}

// keywords are the documented keywords.
func keywords() []string {
	return []string{"$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "exclusiveMaximum",
		"exclusiveMinimum", "format", "items", "maxItems", "maximum", "minItems", "minimum", "multipleOf", "pattern",
		"properties", "required", "title", "type"}
}
