// Package contract_test compares the files in api/ and docs/errors.md with the code, and the current contract with the released
// one. The files that it reads are linked into testdata: go test does not detect changes of files outside the module, and would
// show a cached result.
package contract_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/convoflow/convoflow/api/events"
)

// asyncAPI are the parts of api/asyncapi.yaml that these tests read.
type asyncAPI struct {
	Channels map[string]struct {
		Address  string         `yaml:"address"`
		Messages map[string]any `yaml:"messages"`
	} `yaml:"channels"`
	Components struct {
		Messages map[string]struct {
			Payload struct {
				Ref string `yaml:"$ref"`
			} `yaml:"payload"`
		} `yaml:"messages"`
		Schemas map[string]map[string]any `yaml:"schemas"`
	} `yaml:"components"`
}

func readAsyncAPI(t *testing.T) asyncAPI {
	t.Helper()
	raw, err := os.ReadFile("testdata/api/asyncapi.yaml")
	require.NoError(t, err)
	var doc asyncAPI
	require.NoError(t, yaml.Unmarshal(raw, &doc))
	return doc
}

// published maps every event type of the platform to its topic.
func published() map[string]string {
	types := map[string]string{}
	for _, topic := range events.Topics() {
		for _, name := range topic.Types {
			types[name] = topic.Name
		}
	}
	return types
}

func TestEveryEventIsDocumentedOnItsTopicAndNoOther(t *testing.T) {
	t.Parallel()
	documented := map[string]string{}
	for _, channel := range readAsyncAPI(t).Channels {
		for message := range channel.Messages {
			documented[message] = channel.Address
		}
	}
	require.Equal(t, published(), documented)
}

func TestGoldenEventsAreWhatTheDocumentSays(t *testing.T) {
	t.Parallel()
	doc := readAsyncAPI(t)
	files, err := filepath.Glob("testdata/api/events/testdata/*.json")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, file := range files {
		event := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".json"), ".minimal")
		seen[event] = true
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			name := strings.TrimPrefix(doc.Components.Messages[event].Payload.Ref, "#/components/schemas/")
			schema := doc.Components.Schemas[name]
			require.NotNil(t, schema, "no payload schema for %s", event)
			payload := readJSON(t, file)
			require.NoError(t, compile(t, schema).Validate(payload))
			// The schema allows more fields, because payloads may gain some; but the code and the file must have the same ones.
			properties := schema["properties"].(map[string]any)
			require.Equal(t, slices.Sorted(maps.Keys(properties)), slices.Sorted(maps.Keys(payload.(map[string]any))))
		})
	}
	require.Len(t, seen, len(published()), "a golden file for every event")
}

func compile(t *testing.T, schema map[string]any) *jsonschema.Schema {
	t.Helper()
	raw, err := json.Marshal(schema)
	require.NoError(t, err)
	resource, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("schema.json", resource))
	compiled, err := compiler.Compile("schema.json")
	require.NoError(t, err)
	return compiled
}

func readJSON(t *testing.T, file string) any {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	require.NoError(t, err)
	return value
}
