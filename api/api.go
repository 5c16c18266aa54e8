// Package api is the HTTP contract: one OpenAPI 3.1 document per service, written by hand, and their shared components in
// common.yaml. Each service enforces its document, and the gateway serves all documents merged into one. The package refuses to
// merge documents that define the same name differently.
package api

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"
)

//go:embed *.yaml
var files embed.FS

// RecordingLimit is the name that x-body has for the maximum size of a recording, which is the setting MAX_AUDIO_SIZE_MB.
const RecordingLimit = "recording"

// Services lists the services that have a document, in the order of the merged document.
func Services() []string { return []string{"auth", "calls", "crm", "notify", "gateway"} }

// Document returns the OpenAPI document of one service as JSON, including the shared components.
func Document(service string) ([]byte, error) {
	doc, err := load(service)
	if err != nil {
		return nil, err
	}
	return encode(doc)
}

// Merged returns the document of the whole platform as JSON, as apps see it at the gateway: without internal operations
// (x-internal: true), and with the responses of the gateway itself. version is that of the platform.
func Merged(version string) ([]byte, error) {
	merged, err := load("gateway")
	if err != nil {
		return nil, err
	}
	dropInternal(merged)
	for _, service := range Services() {
		if service == "gateway" {
			continue
		}
		doc, err := read(service) // without the shared components, which the gateway's document has
		if err != nil {
			return nil, err
		}
		dropInternal(doc)
		if err := mergeDocument(merged, doc); err != nil {
			return nil, fmt.Errorf("merge %s.yaml: %w", service, err)
		}
	}
	addAnswers(merged)
	showExamples(merged)
	merged["info"].(map[string]any)["version"] = version
	return encode(merged)
}

// internal is the member of an operation that services call and the gateway does not have.
const internal = "x-internal"

// dropInternal removes the internal operations, with paths that have no other.
func dropInternal(doc map[string]any) {
	paths := child(doc, "paths")
	for path, item := range paths {
		members := item.(map[string]any)
		maps.DeleteFunc(members, func(_ string, op any) bool {
			members, _ := op.(map[string]any)
			return members[internal] == true
		})
		if len(members) == 0 {
			delete(paths, path)
		}
	}
}

// answersOfTheGateway is a member of gateway.yaml: the responses that the gateway may send instead of a service. toAll applies to
// every operation, and forServices to those that are forwarded to a service.
const answersOfTheGateway = "x-answers-of-the-gateway"

// addAnswers adds the gateway's responses to the operations. A status that an operation defines itself is not replaced.
func addAnswers(doc map[string]any) {
	answers := child(doc, answersOfTheGateway)
	delete(doc, answersOfTheGateway)
	for _, item := range child(doc, "paths") {
		for _, member := range item.(map[string]any) {
			op, ok := member.(map[string]any)
			if !ok {
				continue // a summary or description of the path
			}
			own := child(op, "responses")
			add := func(which string) {
				for status, answer := range child(answers, which) {
					if _, defined := own[status]; !defined {
						own[status] = answer
					}
				}
			}
			add("toAll")
			if !strings.HasPrefix(fmt.Sprint(op["operationId"]), "gateway.") {
				add("forServices")
			}
		}
	}
}

// showExamples moves the example of a schema to the request and response bodies with that schema, where most tools expect it. A
// body with its own examples is not changed.
func showExamples(doc map[string]any) {
	components := child(doc, "components")
	schemas, examples := child(components, "schemas"), child(components, "examples")
	var moved []map[string]any
	eachBody(doc, func(body map[string]any) {
		if body["example"] != nil || body["examples"] != nil {
			return
		}
		schema := child(body, "schema")
		ref, _ := schema["$ref"].(string)
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		if ref != "" {
			schema = child(schemas, name)
		}
		list := asList(schema["examples"])
		switch {
		case len(list) == 0:
			return
		case ref == "":
			body["example"] = list[0]
		default:
			examples[name] = map[string]any{"value": list[0]}
			body["examples"] = map[string]any{name: map[string]any{"$ref": "#/components/examples/" + name}}
		}
		moved = append(moved, schema)
	})
	for _, schema := range moved {
		delete(schema, "examples")
	}
}

// eachBody calls f with each media type of each request and response in a part of a document.
func eachBody(part any, f func(map[string]any)) {
	switch part := part.(type) {
	case []any:
		for _, item := range part {
			eachBody(item, f)
		}
	case map[string]any:
		content, _ := part["content"].(map[string]any)
		for _, media := range content {
			if body, ok := media.(map[string]any); ok && body["schema"] != nil {
				f(body)
			}
		}
		for _, item := range part {
			eachBody(item, f)
		}
	}
}

// load reads one document and adds the shared components.
func load(service string) (map[string]any, error) {
	common, err := read("common")
	if err != nil {
		return nil, err
	}
	doc, err := read(service)
	if err != nil {
		return nil, err
	}
	if err := mergeDocument(doc, common); err != nil {
		return nil, fmt.Errorf("merge common.yaml into %s.yaml: %w", service, err)
	}
	return doc, nil
}

// read returns a document of its own for each caller, who may change it.
func read(name string) (map[string]any, error) {
	raw, err := toJSON(name)
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber() // 100 remains 100
	if err := decoder.Decode(&doc); err != nil {
		return nil, fmt.Errorf("read %s.yaml: %w", name, err)
	}
	return doc, nil
}

// converted has the documents as JSON, which is parsed in a tenth of the time of YAML: a process that runs all services reads each
// document twice, and common.yaml six times.
var converted sync.Map // of []byte by name

func toJSON(name string) ([]byte, error) {
	if raw, ok := converted.Load(name); ok {
		return raw.([]byte), nil
	}
	raw, err := files.ReadFile(name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("read %s.yaml: %w", name, err)
	}
	if raw, err = encode(doc); err != nil {
		return nil, err
	}
	converted.Store(name, raw)
	return raw, nil
}

// mergeDocument adds the paths, tags and components of another document. It fails if both define the same name differently.
func mergeDocument(into, from map[string]any) error {
	if err := mergeMap(child(into, "paths"), child(from, "paths")); err != nil {
		return err
	}
	for kind := range child(from, "components") {
		if err := mergeMap(child(child(into, "components"), kind), child(child(from, "components"), kind)); err != nil {
			return fmt.Errorf("components/%s: %w", kind, err)
		}
	}
	tags, _ := into["tags"].([]any)
	for _, tag := range asList(from["tags"]) {
		if !contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	if len(tags) > 0 {
		into["tags"] = tags
	}
	return nil
}

func mergeMap(into, from map[string]any) error {
	for name, value := range from {
		if existing, ok := into[name]; ok && fmt.Sprint(existing) != fmt.Sprint(value) {
			return fmt.Errorf("%s is defined twice, differently", name)
		}
	}
	maps.Copy(into, from)
	return nil
}

func child(m map[string]any, name string) map[string]any {
	c, ok := m[name].(map[string]any)
	if !ok {
		c = map[string]any{}
		m[name] = c
	}
	return c
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}

func contains(list []any, v any) bool {
	for _, item := range list {
		if fmt.Sprint(item) == fmt.Sprint(v) {
			return true
		}
	}
	return false
}

func encode(doc map[string]any) ([]byte, error) {
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode the contract: %w", err)
	}
	return raw, nil
}
