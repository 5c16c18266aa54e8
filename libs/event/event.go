// Package event is the envelope of the events that services publish: an event, its typed form, and its topic. It also creates
// and validates ids. It refuses to know the platform's events, which are in api/events.
package event

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/convoflow/convoflow/libs/fault"
)

// Event is one event: the CloudEvents 1.0 attributes and the JSON payload.
type Event struct {
	ID     string          // UUIDv7; consumers deduplicate by it
	Type   string          // call.uploaded, …
	Topic  string          // where it is published
	Key    string          // id of the aggregate; events with the same key stay in order
	Source string          // /convoflow/<service>, set by the outbox
	Time   time.Time       // when it happened, UTC
	Data   json.RawMessage // nil in a tombstone
}

// Type connects the name of an event type with its topic and the Go type of its payload.
type Type[T Payload] struct {
	Name  string
	Topic string
}

// Payload is the state of one aggregate after a change.
type Payload interface {
	// AggregateID returns the Kafka key.
	AggregateID() string
}

// Received is an event with its decoded payload, as passed to a handler.
type Received[T Payload] struct {
	Event
	Data T
}

// New returns an event of this type with a new id. It panics if the payload cannot be marshaled, which is a bug in the payload
// type.
func (t Type[T]) New(at time.Time, data T) Event {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("event: marshal %s: %v", t.Name, err))
	}
	return Event{ID: NewID(), Type: t.Name, Topic: t.Topic, Key: data.AggregateID(), Time: at.UTC(), Data: raw}
}

// Tombstone returns an event without a payload: compaction of the topic removes the key.
func (t Type[T]) Tombstone(at time.Time, key string) Event {
	return Event{ID: NewID(), Type: t.Name, Topic: t.Topic, Key: key, Time: at.UTC()}
}

// Decode decodes the payload of e. It fails with an Invalid fault, because a retry cannot succeed.
func (t Type[T]) Decode(e Event) (Received[T], error) {
	r := Received[T]{Event: e}
	if err := json.Unmarshal(e.Data, &r.Data); err != nil {
		return r, fault.Wrap(err, fault.Invalid, "bad_payload", "The payload of "+t.Name+" cannot be read")
	}
	if r.Data.AggregateID() == "" {
		return r, fault.New(fault.Invalid, "bad_payload", "The payload of "+t.Name+" names no aggregate")
	}
	return r, nil
}

// NewID returns a UUIDv7. UUIDv7s sort by creation time, so new rows go to the end of an index.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// ValidID reports whether s is a UUID in canonical form: 36 characters, hexadecimal digits in lower case. An id has one spelling,
// so that comparing texts compares ids.
func ValidID(s string) bool {
	return len(s) == 36 && uuid.Validate(s) == nil && strings.ToLower(s) == s
}
