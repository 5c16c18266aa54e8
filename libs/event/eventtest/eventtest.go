// Package eventtest has an event type and its topic for tests of packages that know no event of the platform.
package eventtest

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// ThingsTopic stores things.
const ThingsTopic = "test.things.v1"

// ThingChanged and ThingIgnored are the types of the topic. No test subscribes to the second.
var (
	ThingChanged = event.Type[Thing]{Name: "thing.changed", Topic: ThingsTopic}
	ThingIgnored = event.Type[Thing]{Name: "thing.ignored", Topic: ThingsTopic}
)

// Thing is a payload.
type Thing struct {
	ID      string `json:"id"`
	Version int64  `json:"version"`
	Name    string `json:"name"`
}

// AggregateID is the thing's id.
func (t Thing) AggregateID() string { return t.ID }

// Topics are the topics of this package.
func Topics() []event.Topic {
	return []event.Topic{{Name: ThingsTopic, Producer: "test", Retention: 24 * time.Hour, Types: []string{ThingChanged.Name, ThingIgnored.Name}}}
}
