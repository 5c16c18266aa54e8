package speech

import (
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
)

// prompts has the instructions and schemas of each call type. A change that alters what a model answers is a new version.
//
//go:embed prompt
var prompts embed.FS

const promptVersion = "v1"

// prompt is how insights into calls of one type are requested.
type prompt struct {
	instructions string
	schema       schema
	raw          json.RawMessage // of schema
}

func callTypes() []string { return []string{"default", "discovery", "followup", "demo"} }

// loadPrompts reads the prompts of all call types. Those other than default extend it: they add a paragraph and the object insights.
func loadPrompts() (map[string]prompt, error) {
	common, base, err := loadPrompt("default")
	if err != nil {
		return nil, err
	}
	loaded := map[string]prompt{}
	for _, callType := range callTypes() {
		text, own := common, base
		if callType != "default" {
			more, fields, err := loadPrompt(callType)
			if err != nil {
				return nil, err
			}
			text += "\n" + more
			own.Required = append([]string{"insights"}, base.Required...)
			own.Properties = maps.Clone(base.Properties)
			own.Properties["insights"] = fields
		}
		raw, err := json.Marshal(own)
		if err != nil {
			return nil, fmt.Errorf("write the schema of %s: %w", callType, err)
		}
		loaded[callType] = prompt{text, own, raw}
	}
	return loaded, nil
}

func loadPrompt(callType string) (text string, s schema, err error) {
	read := func(extension string) []byte {
		raw, failed := prompts.ReadFile("prompt/" + promptVersion + "/" + callType + extension)
		if failed != nil {
			err = fmt.Errorf("read the prompt of %s: %w", callType, failed)
		}
		return raw
	}
	text = strings.TrimSpace(string(read(".md")))
	raw := read(".json")
	if err != nil {
		return "", s, err
	}
	if err = json.Unmarshal(raw, &s); err != nil {
		return "", s, fmt.Errorf("read the schema of %s: %w", callType, err)
	}
	return text, s, nil
}
