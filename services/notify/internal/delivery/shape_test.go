package delivery

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// shape is the types that a payload's fields may have, by path: {"data.summary": "null string"}.
type shape map[string]string

func (s shape) add(path string, v any) {
	kind := "null"
	switch v := v.(type) {
	case bool:
		kind = "boolean"
	case float64:
		kind = "number"
	case string:
		kind = "string"
	case []any:
		kind = "array"
		for _, item := range v {
			s.add(path+"[]", item)
		}
	case map[string]any:
		for key, field := range v {
			s.add(strings.TrimPrefix(path+"."+key, "."), field)
		}
		return
	}
	kinds := strings.Fields(s[path])
	if !slices.Contains(kinds, kind) {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	s[path] = strings.Join(kinds, " ")
}

// minimal is the event with nothing but what it always has.
func minimal(eventType string) any {
	switch about, _, _ := strings.Cut(eventType, "."); about {
	case "followup":
		return events.FollowUp{FollowUpID: sampleFollowUp, CallID: sampleCall, AgentID: sampleAgent}
	case "lead":
		return events.Lead{LeadID: sampleLead}
	case "webhook":
		return events.Endpoint{EndpointID: sampleEndpoint, DisabledAt: noon}
	default:
		return events.Call{CallID: sampleCall, AgentID: sampleAgent}
	}
}

// shapeOf returns the shape of an event's payloads: everything is known, and nothing is.
func shapeOf(t *testing.T, eventType string, p endpoint.Profile) shape {
	t.Helper()
	full, who := sample(eventType, noon)
	least := full
	var err error
	least.Data, err = json.Marshal(minimal(eventType))
	require.NoError(t, err)
	found, keys := shape{}, []string{}
	for _, one := range []struct {
		d   Delivery
		who people
	}{{full, who}, {least, people{}}} {
		body, err := render(p, one.d, one.who, links{"https://crm.example.com"})
		require.NoError(t, err)
		var fields map[string]any
		require.NoError(t, json.Unmarshal(body, &fields))
		found.add("", fields)
		flat := shape{}
		flat.add("", fields)
		paths := slices.Sorted(maps.Keys(flat))
		paths = slices.DeleteFunc(paths, func(path string) bool { return strings.HasSuffix(path, "[]") })
		if len(keys) > 0 {
			require.Equal(t, keys, paths, "%s has all its keys every time", eventType)
		}
		keys = paths
	}
	return found
}

// lost returns what a receiver that was mapped on the pinned shape would miss.
func (s shape) lost(pinned shape) (problems []string) {
	for path, kinds := range pinned {
		now, ok := s[path]
		if !ok {
			problems = append(problems, path+" is missing")
			continue
		}
		for kind := range strings.FieldsSeq(now) {
			if !slices.Contains(strings.Fields(kinds), kind) {
				problems = append(problems, path+" is now also "+kind)
			}
		}
	}
	slices.Sort(problems)
	return problems
}

// Receivers map the fields of one captured sample. testdata/shapes.json has what they may rely on, by event and profile: -update adds
// what is new and never removes anything.
func TestNoPayloadLosesAKeyOrChangesAType(t *testing.T) {
	t.Parallel()
	const file = "testdata/shapes.json"
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	var pinned map[string]map[endpoint.Profile]shape
	require.NoError(t, json.Unmarshal(raw, &pinned))
	for _, eventType := range endpoint.EventTypes() {
		for _, p := range endpoint.Profiles() {
			now := shapeOf(t, eventType, p)
			if *update {
				if pinned[eventType] == nil {
					pinned[eventType] = map[endpoint.Profile]shape{}
				}
				maps.Copy(now, pinned[eventType][p])
				pinned[eventType][p] = now
				continue
			}
			require.NotEmpty(t, pinned[eventType][p], "%s as %s is not pinned: run the test with -update", eventType, p)
			require.Empty(t, now.lost(pinned[eventType][p]), "%s as %s", eventType, p)
		}
	}
	for eventType := range pinned {
		require.Contains(t, endpoint.EventTypes(), eventType, "a pinned event is no longer sent")
	}
	if *update {
		raw, err = json.MarshalIndent(pinned, "", " ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append(raw, '\n'), 0o600))
	}
}

func TestWhatIsLostIsFound(t *testing.T) {
	t.Parallel()
	pinned := shape{"summary": "null string", "count": "number", "gone": "string"}
	require.Equal(t, []string{"count is now also string", "gone is missing"}, shape{"summary": "string", "count": "string", "added": "array"}.lost(pinned))
}

// The keys that events.md promises are those of the profile pabbly; the two other profiles have the same ones in data.
func TestTheProfilesHaveTheSameFields(t *testing.T) {
	t.Parallel()
	for _, eventType := range endpoint.EventTypes() {
		flat := shapeOf(t, eventType, endpoint.Pabbly)
		for p, name := range map[endpoint.Profile]string{endpoint.PabblyNested: "event", endpoint.Standard: "type"} {
			want := shape{name: "string", "timestamp": "string"}
			for path, kinds := range flat {
				if path != "event" && path != "timestamp" {
					want["data."+path] = kinds
				}
			}
			require.Equal(t, want, shapeOf(t, eventType, p), "%s as %s", eventType, p)
		}
	}
}
