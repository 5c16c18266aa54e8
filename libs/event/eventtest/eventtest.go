// Package eventtest provides event types and a topic for the tests of packages that may not know the platform's events.
package eventtest

import (
	"time"

	"github.com/convoflow/convoflow/libs/event"
)

// ThingsTopic is the topic of both event types.
const ThingsTopic = "test.things.v1"

// ThingChanged and ThingIgnored are the event types of the topic. No test subscribes to ThingIgnored.
var (
	ThingChanged = event.Type[Thing]{Name: "thing.changed", Topic: ThingsTopic}
	ThingIgnored = event.Type[Thing]{Name: "thing.ignored", Topic: ThingsTopic}
)

// Thing is the payload of both event types.
type Thing struct {
	ID      string `json:"id"`
	Version int64  `json:"version"`
	Name    string `json:"name"`
}

// AggregateID returns the thing's id.
func (t Thing) AggregateID() string { return t.ID }

// Topics returns the topics of this package.
func Topics() []event.Topic {
	return []event.Topic{{Name: ThingsTopic, Producer: "test", Retention: 24 * time.Hour, Types: []string{ThingChanged.Name, ThingIgnored.Name}}}
}
