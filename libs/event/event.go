// Package event is the envelope of what services publish: an event, its typed form, and the topic that stores it. It knows no
// event of the platform; those are in api/events. Ids are made and checked here too.
package event

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/convoflow/convoflow/libs/fault"
)

// Event is a fact on its way to or from Kafka: the CloudEvents 1.0 attributes and the bare payload.
type Event struct {
	ID     string    // UUIDv7, the same for ever; receivers deduplicate by it
	Type   string    // call.uploaded, …
	Topic  string    // where it is published
	Key    string    // id of the aggregate; events of one key stay in order
	Source string    // /convoflow/<service>, set by the outbox
	Time   time.Time // when it happened, UTC
	Data   json.RawMessage
}

// Type ties the name of an event to its topic and the Go type of its payload.
type Type[T Payload] struct {
	Name  string
	Topic string
}

// Payload is the state of one aggregate.
type Payload interface {
	// AggregateID is the Kafka key.
	AggregateID() string
}

// Received is an event with its payload decoded, as a handler gets it.
type Received[T Payload] struct {
	Event
	Data T
}

// New makes an event of this type with a new id. A payload type always marshals; New panics on one that does
// not, because that is a bug of the type.
func (t Type[T]) New(at time.Time, data T) Event {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("event: marshal %s: %v", t.Name, err))
	}
	return Event{ID: NewID(), Type: t.Name, Topic: t.Topic, Key: data.AggregateID(), Time: at.UTC(), Data: raw}
}

// Decode reads the payload of e. A payload that cannot be read is an Invalid fault: trying again does not help.
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

// NewID makes a UUIDv7: unique, and in the order of creation, so that new rows go to the end of an index.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// ValidID reports whether s is a UUID in its canonical form.
func ValidID(s string) bool {
	return len(s) == 36 && uuid.Validate(s) == nil
}
