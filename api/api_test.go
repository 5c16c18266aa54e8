package api

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

// validate parses and validates a document with kin-openapi.
func validate(t *testing.T, raw []byte) *openapi3.T {
	t.Helper()
	require.True(t, json.Valid(raw))
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	return doc
}

func TestEachDocumentIsValid(t *testing.T) {
	t.Parallel()
	eachDocument(t, func(t *testing.T, service string, doc *openapi3.T) {
		require.True(t, strings.HasPrefix(doc.OpenAPI, "3.1."), "OpenAPI 3.1")
		require.NotEmpty(t, doc.Paths.Map())
		require.Contains(t, doc.Components.Schemas, "Error", "it includes the shared components")
		if service != "gateway" {
			require.Empty(t, doc.Security, "merging drops it: put security in the operations")
			require.Empty(t, doc.Servers, "merging drops them")
		}
	})
}

// eachDocument tests the document of each service.
func eachDocument(t *testing.T, test func(t *testing.T, service string, doc *openapi3.T)) {
	t.Helper()
	for _, service := range Services() {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			raw, err := Document(service)
			require.NoError(t, err)
			test(t, service, validate(t, raw))
		})
	}
}

// operations calls f with each operation of a document.
func operations(doc *openapi3.T, f func(where string, item *openapi3.PathItem, op *openapi3.Operation)) {
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			f(method+" "+path, item, op)
		}
	}
}

func TestEachOperationIsComplete(t *testing.T) {
	t.Parallel()
	eachDocument(t, func(t *testing.T, service string, doc *openapi3.T) {
		var tags []string
		for _, tag := range doc.Tags {
			tags = append(tags, tag.Name)
		}
		operations(doc, func(where string, item *openapi3.PathItem, op *openapi3.Operation) {
			require.True(t, strings.HasPrefix(op.OperationID, service+"."), "%s: operationId is <service>.<verb>", where)
			require.NotEmpty(t, op.Summary, where)
			require.NotEmpty(t, op.Tags, where)
			require.Subset(t, tags, op.Tags, where)
			require.Empty(t, item.Parameters, "%s: libs/rpc reads only the parameters of the operation", where)
			access, _ := op.Extensions["x-access"].(string)
			require.Contains(t, []string{"anyone", "signed", "link", "agent", "admin"}, access, where)
			require.NotNil(t, op.Security, "%s: security is missing", where)
			open := access == "anyone" || access == "signed" // a signature is not a security scheme
			require.Equal(t, open, len(*op.Security) == 0, "%s: x-access and security differ", where)
			if access != "anyone" {
				require.NotNil(t, op.Responses.Value("401"), where)
			}
			if access == "admin" {
				require.NotNil(t, op.Responses.Value("403"), where)
			}
			if len(op.Parameters) > 0 || op.RequestBody != nil {
				names := slices.Collect(maps.Keys(op.Responses.Map()))
				require.Condition(t, func() bool { return slices.Contains(names, "422") || service == "gateway" }, "%s: fields can be invalid", where)
			}
		})
	})
}

func TestTextsAndListsInRequestsHaveALimit(t *testing.T) {
	t.Parallel()
	limited := func(where string, s *openapi3.Schema) {
		if s.Type.Includes("string") && s.Format != "binary" {
			require.True(t, s.MaxLength != nil || len(s.Enum) > 0 || s.Const != nil || s.Format == "uuid" || s.Format == "date-time", "%s: a text without maxLength", where)
		}
		if s.Type.Includes("array") {
			require.NotNil(t, s.MaxItems, "%s: a list without maxItems", where)
		}
	}
	for _, service := range Services() {
		raw, err := Document(service)
		require.NoError(t, err)
		operations(validate(t, raw), func(where string, _ *openapi3.PathItem, op *openapi3.Operation) {
			for _, p := range op.Parameters {
				eachSchema(where+" "+p.Value.Name, p.Value.Schema, limited)
			}
			if op.RequestBody == nil {
				return
			}
			for _, media := range op.RequestBody.Value.Content {
				eachSchema(where, media.Schema, limited)
			}
		})
	}
}

// eachSchema calls f with a schema and, recursively, its parts.
func eachSchema(where string, ref *openapi3.SchemaRef, f func(where string, s *openapi3.Schema)) {
	seen := map[*openapi3.Schema]bool{}
	var visit func(string, *openapi3.SchemaRef)
	visit = func(where string, ref *openapi3.SchemaRef) {
		if ref == nil || ref.Value == nil || seen[ref.Value] {
			return
		}
		s := ref.Value
		seen[s] = true
		f(where, s)
		visit(where+"[]", s.Items)
		for name, p := range s.Properties {
			visit(where+"."+name, p)
		}
		for _, part := range slices.Concat(s.AllOf, s.AnyOf, s.OneOf) {
			visit(where, part)
		}
	}
	visit(where, ref)
}

func TestTheMergedDocumentHasEveryOperation(t *testing.T) {
	t.Parallel()
	raw, err := Merged("1.2.3")
	require.NoError(t, err)
	merged := validate(t, raw)
	require.Equal(t, "1.2.3", merged.Info.Version)
	var hidden []string // from the gateway and from apps
	want, got := map[string]string{}, map[string]string{}
	for _, service := range Services() {
		raw, err := Document(service)
		require.NoError(t, err)
		operations(validate(t, raw), func(where string, _ *openapi3.PathItem, op *openapi3.Operation) {
			require.Empty(t, want[op.OperationID], "%s exists twice", op.OperationID)
			if op.Extensions[internal] == true {
				hidden = append(hidden, op.OperationID)
				return
			}
			want[op.OperationID] = where
		})
	}
	operations(merged, func(where string, _ *openapi3.PathItem, op *openapi3.Operation) { got[op.OperationID] = where })
	require.Equal(t, want, got)
	require.Equal(t, []string{"auth.list_revocations", "calls.classify"}, hidden)
	var names []string
	for _, tag := range merged.Tags {
		names = append(names, tag.Name)
	}
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(names))), len(names), "a tag exists once")

	again, err := Merged("1.2.3")
	require.NoError(t, err)
	require.Equal(t, string(raw), string(again), "the result is deterministic")
}

func TestEveryOperationHasTheGatewaysResponses(t *testing.T) {
	t.Parallel()
	raw, err := Merged("1.2.3")
	require.NoError(t, err)
	merged := validate(t, raw)
	require.NotContains(t, merged.Extensions, answersOfTheGateway)
	operations(merged, func(where string, _ *openapi3.PathItem, op *openapi3.Operation) {
		want := []string{"400", "429"}
		if op.RequestBody != nil {
			want = append(want, "413")
		}
		if !strings.HasPrefix(op.OperationID, "gateway.") {
			want = append(want, "502", "503", "504")
		}
		require.Subset(t, slices.Collect(maps.Keys(op.Responses.Map())), want, where)
		require.Contains(t, op.Responses.Value("429").Value.Headers, "Retry-After", where)
	})
	ready := merged.Paths.Value("/ready").Get.Responses
	require.Empty(t, ready.Value("503").Ref, "a response that an operation defines itself is not replaced")
	require.Nil(t, ready.Value("502"), "no service is behind the gateway's own operations")
	upload := merged.Paths.Value("/calls/upload").Post.Responses
	require.Contains(t, *upload.Value("400").Value.Description, "malformed_form")
}

// uuid is the pattern of RFC 9562; the library's own pattern is that of RFC 4122, without version 7.
const uuid = `^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`

func TestEverythingHasAnExample(t *testing.T) {
	t.Parallel()
	raw, err := Merged("1.2.3")
	require.NoError(t, err)
	operations(validate(t, raw), func(where string, _ *openapi3.PathItem, op *openapi3.Operation) {
		if op.RequestBody != nil {
			for _, media := range op.RequestBody.Value.Content {
				requireExamples(t, where, media)
			}
		}
		for status, answer := range op.Responses.Map() {
			media := answer.Value.Content["application/json"]
			if media == nil {
				require.Less(t, status, "400", "%s: an error that is not JSON", where)
				continue
			}
			at := where + " → " + status
			for _, example := range requireExamples(t, at, media) {
				if status < "400" || op.OperationID == "gateway.ready" {
					continue
				}
				body, _ := example.(map[string]any)
				require.Regexp(t, `^[a-z_]+$`, body["code"], at)
				require.Regexp(t, uuid, body["request_id"], at)
			}
		}
	})
}

// requireExamples requires a body to have at least one example, and all examples to match its schema. It returns the examples.
func requireExamples(t *testing.T, where string, media *openapi3.MediaType) []any {
	t.Helper()
	var all []any
	if media.Example != nil {
		all = append(all, media.Example)
	}
	for _, example := range media.Examples {
		all = append(all, example.Value.Value)
	}
	require.NotEmpty(t, all, "%s: an example", where)
	requireMatch(t, where, media.Schema.Value, all...)
	return all
}

// requireMatch requires values to match a schema.
func requireMatch(t *testing.T, where string, schema *openapi3.Schema, values ...any) {
	t.Helper()
	for _, value := range values {
		require.NoError(t, schema.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors(), openapi3.EnableFormatValidation(),
			openapi3.WithStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(uuid))), "%s: %v", where, value)
	}
}

func TestExamplesOfParametersAndFieldsMatchTheirSchemas(t *testing.T) {
	t.Parallel()
	raw, err := Merged("1.2.3")
	require.NoError(t, err)
	count := 0
	match := func(where string, s *openapi3.Schema) {
		requireMatch(t, where, s, s.Examples...)
		count += len(s.Examples)
	}
	operations(validate(t, raw), func(where string, _ *openapi3.PathItem, op *openapi3.Operation) {
		for _, p := range op.Parameters {
			if p.Value.Example != nil {
				requireMatch(t, where+" "+p.Value.Name, p.Value.Schema.Value, p.Value.Example)
			}
			eachSchema(where+" "+p.Value.Name, p.Value.Schema, match)
		}
		if op.RequestBody != nil {
			for _, media := range op.RequestBody.Value.Content {
				eachSchema(where, media.Schema, match)
			}
		}
		for status, answer := range op.Responses.Map() {
			for _, media := range answer.Value.Content {
				eachSchema(where+" → "+status, media.Schema, match)
			}
		}
	})
	require.NotZero(t, count)
}

func TestANameWithTwoDefinitionsIsAnError(t *testing.T) {
	t.Parallel()
	type object = map[string]any
	doc := func(path, schema string) object {
		return object{"paths": object{path: object{"get": object{"operationId": schema}}}, "components": object{"schemas": object{"Thing": object{"type": schema}}}}
	}
	require.NoError(t, mergeDocument(doc("/a", "string"), doc("/b", "string")), "the same definition twice is allowed")
	require.ErrorContains(t, mergeDocument(doc("/a", "string"), doc("/b", "integer")), "components/schemas: Thing is defined twice, differently")
	require.ErrorContains(t, mergeDocument(doc("/a", "string"), doc("/a", "integer")), "/a is defined twice, differently")
	into := object{"tags": []any{object{"name": "a"}}}
	require.NoError(t, mergeDocument(into, object{"tags": []any{object{"name": "a"}, object{"name": "b"}}}))
	require.Equal(t, []any{object{"name": "a"}, object{"name": "b"}}, into["tags"])
}

func TestAServiceWithoutADocument(t *testing.T) {
	t.Parallel()
	_, err := Document("billing")
	require.ErrorContains(t, err, "read the contract")
}
