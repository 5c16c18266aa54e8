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

func TestNothingBreaksTheReleasedContract(t *testing.T) {
	t.Parallel()
	current, err := api.Merged("now")
	require.NoError(t, err)
	require.Empty(t, breakingChanges(t, released(t), current), "apps for api/released/openapi.json would break; see Release in CONTRIBUTING.md")
}

// released returns the contract of the last release, as make release-contract wrote it.
func released(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/api/released/openapi.json")
	require.NoError(t, err)
	return raw
}

// stricterLevels are changes that oasdiff allows or only warns about, although they break our apps: apps would not notice that
// a filter, a field or an extra of an error was removed.
var stricterLevels = map[string]checker.Level{
	checker.RequestParameterRemovedId:         checker.ERR,
	checker.RequestPropertyRemovedId:          checker.ERR,
	checker.ResponseOptionalPropertyRemovedId: checker.ERR,
}

// breakingChanges lists the changes that break an app for the contract before. Only oasdiff's level ERR counts: a warning may be
// harmless, such as another pattern.
func breakingChanges(t *testing.T, before, after []byte) (found []string) {
	t.Helper()
	changes, operations, err := diff.GetWithOperationsSourcesMap(diff.NewConfig(), document(t, before), document(t, after))
	require.NoError(t, err)
	config := checker.NewConfig(checker.GetAllChecks(), checker.WithSeverityLevels(stricterLevels))
	for _, c := range checker.CheckBackwardCompatibilityUntilLevel(config, changes, operations, checker.ERR) {
		found = append(found, c.GetOperation()+" "+c.GetPath()+": "+c.GetUncolorizedText(checker.NewDefaultLocalizer())+" ["+c.GetId()+"]")
	}
	return found
}

func document(t *testing.T, raw []byte) *load.SpecInfo {
	t.Helper()
	// Without flattening, changes inside an allOf are at most warnings, and Call is an allOf.
	doc, err := load.NewSpecInfoFromData(openapi3.NewLoader(), raw, "openapi.json", load.WithFlattenAllOf())
	require.NoError(t, err)
	return doc
}

// object is a JSON object of an OpenAPI document.
type object = map[string]any

// at returns a nested object.
func at(part object, names ...string) object {
	for _, name := range names {
		part = part[name].(object)
	}
	return part
}

func without(list any, value string) []any {
	return slices.DeleteFunc(list.([]any), func(v any) bool { return v == value })
}

func TestBreakingChangesAreFound(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(paths, schemas object)
		found  string // one of the findings; empty if there must be none
	}{
		{"operation removed", func(paths, _ object) { delete(at(paths, "/clients/{id}"), "delete") },
			"DELETE /clients/{id}: api removed without deprecation [api-removed-without-deprecation]"},
		{"path removed", func(paths, _ object) { delete(paths, "/clients/{id}") },
			"GET /clients/{id}: api path removed without deprecation [api-path-removed-without-deprecation]"},
		{"parameter removed", func(paths, _ object) {
			list := at(paths, "/calls", "get")
			list["parameters"] = slices.DeleteFunc(list["parameters"].([]any), func(p any) bool { return p.(object)["name"] == "status" })
		}, "GET /calls: deleted the `query` request parameter `status` [request-parameter-removed]"},
		{"response removed", func(paths, _ object) { delete(at(paths, "/clients", "post", "responses"), "201") },
			"POST /clients: removed the success response with the status `201` [response-success-status-removed]"},
		{"property removed", func(_, schemas object) { delete(at(schemas, "Client", "properties"), "phone") },
			"GET /clients/{id}: removed the required property `phone` from the response with the `200` status [response-required-property-removed]"},
		{"property in an allOf removed", func(_, schemas object) { delete(at(schemas, "CallSummary", "properties"), "title") },
			"GET /calls/{id}: removed the required property `title` from the response with the `200` status [response-required-property-removed]"},
		{"extra of an error removed", func(_, schemas object) { delete(at(schemas, "ClientExistsError", "properties"), "client_id") },
			"POST /clients: removed the optional property `client_id` from the response with the `409` status [response-optional-property-removed]"},
		{"property became nullable", func(_, schemas object) { at(schemas, "Client", "properties", "name")["type"] = []any{"string", "null"} },
			"GET /clients/{id}: the response property `name` became nullable for the status `200` [response-property-became-nullable]"},
		{"status of a call added", func(_, schemas object) {
			status := at(schemas, "CallStatus")
			status["enum"] = append(status["enum"].([]any), "queued")
		}, "GET /calls/{id}: added the new `queued` enum value to the `status` response property for the response status `200` [response-property-enum-value-added]"},
		{"field removed", func(_, schemas object) { delete(at(schemas, "ClientFields", "properties"), "notes") },
			"POST /clients: removed the request property `notes` [request-property-removed]"},
		{"field became required", func(_, schemas object) { at(schemas, "ClientFields")["required"] = []any{"name", "phone"} },
			"POST /clients: the request property `phone` became required [request-property-became-required]"},
		{"choice removed", func(_, schemas object) {
			at(schemas, "CallType")["enum"] = without(at(schemas, "CallType")["enum"], "demo")
		}, "POST /calls/upload: removed the enum value `demo` of the request property `call_type` [request-property-enum-value-removed]"},
		{"limit lowered", func(_, schemas object) { at(schemas, "ClientName")["maxLength"] = 10 },
			"POST /clients: the `name` request property's maxLength was decreased to `10` [request-property-max-length-decreased]"},

		{"operation added", func(paths, _ object) {
			paths["/ping"] = object{"get": object{"responses": object{"204": object{"description": "Pong."}}}}
		}, ""},
		{"optional parameter added", func(paths, _ object) {
			list := at(paths, "/calls", "get")
			list["parameters"] = append(list["parameters"].([]any), object{"name": "color", "in": "query", "schema": object{"type": "string"}})
		}, ""},
		{"optional field added", func(_, schemas object) {
			at(schemas, "ClientFields", "properties")["nickname"] = object{"type": "string"}
		}, ""},
		{"property added", func(_, schemas object) { at(schemas, "Client", "properties")["nickname"] = object{"type": "string"} }, ""},
		{"example added", func(_, schemas object) { at(schemas, "ClientName")["examples"] = []any{"Riya Kapoor"} }, ""},
		{"error response added", func(paths, _ object) {
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
			if found := breakingChanges(t, before, after); tt.found == "" {
				require.Empty(t, found)
			} else {
				require.Contains(t, found, tt.found)
			}
		})
	}
}
