package contract_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oasdiff/oasdiff/checker"
	"github.com/oasdiff/oasdiff/diff"
	"github.com/oasdiff/oasdiff/load"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api"
)

func TestTheReleasedContractIsNotBroken(t *testing.T) {
	t.Parallel()
	now, err := api.Merged("now")
	require.NoError(t, err)
	require.Empty(t, breaks(t, released(t), now), "apps that speak api/released/openapi.json would break; see Release in CONTRIBUTING.md")
}

// released is the contract of the last release, as make release-contract has written it.
func released(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/api/released/openapi.json")
	require.NoError(t, err)
	return raw
}

// harsher are changes that oasdiff accepts or only warns about, and that break our apps: apps do not notice that a filter, a
// field or an extra of an error was removed.
var harsher = map[string]checker.Level{
	checker.RequestParameterRemovedId:         checker.ERR,
	checker.RequestPropertyRemovedId:          checker.ERR,
	checker.ResponseOptionalPropertyRemovedId: checker.ERR,
}

// breaks returns the changes that break an app of the earlier contract. Only oasdiff's level ERR counts: a warning may be
// harmless, such as another pattern.
func breaks(t *testing.T, before, after []byte) (found []string) {
	t.Helper()
	changes, operations, err := diff.GetWithOperationsSourcesMap(diff.NewConfig(), document(t, before), document(t, after))
	require.NoError(t, err)
	config := checker.NewConfig(checker.GetAllChecks(), checker.WithSeverityLevels(harsher))
	for _, c := range checker.CheckBackwardCompatibilityUntilLevel(config, changes, operations, checker.ERR) {
		found = append(found, c.GetOperation()+" "+c.GetPath()+": "+c.GetUncolorizedText(checker.NewDefaultLocalizer())+" ["+c.GetId()+"]")
	}
	return found
}

func document(t *testing.T, raw []byte) *load.SpecInfo {
	t.Helper()
	// Without flattening, any change inside an allOf is at most a warning, and a Call is one.
	doc, err := load.NewSpecInfoFromData(openapi3.NewLoader(), raw, "openapi.json", load.WithFlattenAllOf())
	require.NoError(t, err)
	return doc
}

// object is a part of an OpenAPI document.
type object = map[string]any

// at follows a path of names from a part.
func at(part object, names ...string) object {
	for _, name := range names {
		part = part[name].(object)
	}
	return part
}

func without(list any, value string) []any {
	return slices.DeleteFunc(list.([]any), func(v any) bool { return v == value })
}

func TestWhatBreaksAnAppIsFound(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(paths, schemas object)
		found  string // one of the expected findings; empty for none
	}{
		{"no operation", func(paths, _ object) { delete(at(paths, "/clients/{id}"), "delete") },
			"DELETE /clients/{id}: api removed without deprecation [api-removed-without-deprecation]"},
		{"no path", func(paths, _ object) { delete(paths, "/clients/{id}") },
			"GET /clients/{id}: api path removed without deprecation [api-path-removed-without-deprecation]"},
		{"no parameter", func(paths, _ object) {
			list := at(paths, "/calls", "get")
			list["parameters"] = slices.DeleteFunc(list["parameters"].([]any), func(p any) bool { return p.(object)["name"] == "status" })
		}, "GET /calls: deleted the `query` request parameter `status` [request-parameter-removed]"},
		{"no answer", func(paths, _ object) { delete(at(paths, "/clients", "post", "responses"), "201") },
			"POST /clients: removed the success response with the status `201` [response-success-status-removed]"},
		{"no property", func(_, schemas object) { delete(at(schemas, "Client", "properties"), "phone") },
			"GET /clients/{id}: removed the required property `phone` from the response with the `200` status [response-required-property-removed]"},
		{"no property in an allOf", func(_, schemas object) { delete(at(schemas, "CallSummary", "properties"), "title") },
			"GET /calls/{id}: removed the required property `title` from the response with the `200` status [response-required-property-removed]"},
		{"no extra of an error", func(_, schemas object) { delete(at(schemas, "ClientExistsError", "properties"), "client_id") },
			"POST /clients: removed the optional property `client_id` from the response with the `409` status [response-optional-property-removed]"},
		{"a property can be null", func(_, schemas object) { at(schemas, "Client", "properties", "name")["type"] = []any{"string", "null"} },
			"GET /clients/{id}: the response property `name` became nullable for the status `200` [response-property-became-nullable]"},
		{"one more status of a call", func(_, schemas object) {
			status := at(schemas, "CallStatus")
			status["enum"] = append(status["enum"].([]any), "queued")
		}, "GET /calls/{id}: added the new `queued` enum value to the `status` response property for the response status `200` [response-property-enum-value-added]"},
		{"no field", func(_, schemas object) { delete(at(schemas, "ClientFields", "properties"), "notes") },
			"POST /clients: removed the request property `notes` [request-property-removed]"},
		{"a field is required", func(_, schemas object) { at(schemas, "ClientFields")["required"] = []any{"name", "phone"} },
			"POST /clients: the request property `phone` became required [request-property-became-required]"},
		{"a choice less", func(_, schemas object) {
			at(schemas, "CallType")["enum"] = without(at(schemas, "CallType")["enum"], "demo")
		}, "POST /calls/upload: removed the enum value `demo` of the request property `call_type` [request-property-enum-value-removed]"},
		{"a lower limit", func(_, schemas object) { at(schemas, "ClientName")["maxLength"] = 10 },
			"POST /clients: the `name` request property's maxLength was decreased to `10` [request-property-max-length-decreased]"},

		{"one more operation", func(paths, _ object) {
			paths["/ping"] = object{"get": object{"responses": object{"204": object{"description": "Pong."}}}}
		}, ""},
		{"one more optional parameter", func(paths, _ object) {
			list := at(paths, "/calls", "get")
			list["parameters"] = append(list["parameters"].([]any), object{"name": "color", "in": "query", "schema": object{"type": "string"}})
		}, ""},
		{"one more optional field", func(_, schemas object) {
			at(schemas, "ClientFields", "properties")["nickname"] = object{"type": "string"}
		}, ""},
		{"one more property", func(_, schemas object) { at(schemas, "Client", "properties")["nickname"] = object{"type": "string"} }, ""},
		{"one more example", func(_, schemas object) { at(schemas, "ClientName")["examples"] = []any{"Riya Kapoor"} }, ""},
		{"one more error answer", func(paths, _ object) {
			at(paths, "/clients", "post", "responses")["418"] = object{"$ref": "#/components/responses/Conflict"}
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := released(t)
			var doc object
			require.NoError(t, json.Unmarshal(before, &doc))
			tt.change(at(doc, "paths"), at(doc, "components", "schemas"))
			after, err := json.Marshal(doc)
			require.NoError(t, err)
			if found := breaks(t, before, after); tt.found == "" {
				require.Empty(t, found)
			} else {
				require.Contains(t, found, tt.found)
			}
		})
	}
}
