package bus

import (
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/outbox"
)

// encode writes the CloudEvents 1.0 attributes as headers: the binary content mode of the Kafka protocol binding.
func encode(m outbox.Message) kafka.Message {
	headers := []kafka.Header{
		{Key: "ce_specversion", Value: []byte("1.0")},
		{Key: "ce_id", Value: []byte(m.ID)},
		{Key: "ce_source", Value: []byte(m.Source)},
		{Key: "ce_type", Value: []byte(m.Type)},
		{Key: "ce_time", Value: []byte(m.Time.Format(time.RFC3339Nano))},
		{Key: "content-type", Value: []byte("application/json")},
	}
	for name, value := range m.Trace {
		headers = append(headers, kafka.Header{Key: name, Value: []byte(value)})
	}
	return kafka.Message{Key: []byte(m.Key), Value: m.Data, Headers: headers}
}

// decode is the inverse of encode. It fails with an Invalid fault when the message is not a CloudEvent.
func decode(m kafka.Message) (outbox.Message, error) {
	out := outbox.Message{Event: event.Event{
		ID: strings.ToLower(header(m, "ce_id")), Type: header(m, "ce_type"), Topic: m.Topic, Key: string(m.Key), Source: header(m, "ce_source"), Data: m.Value,
	}}
	if dead := header(m, deadTopic); dead != "" {
		out.Topic = dead
	}
	for _, name := range []string{"traceparent", "tracestate"} {
		if value := header(m, name); value != "" {
			if out.Trace == nil {
				out.Trace = map[string]string{}
			}
			out.Trace[name] = value
		}
	}
	at, err := time.Parse(time.RFC3339Nano, header(m, "ce_time"))
	if err != nil || header(m, "ce_specversion") != "1.0" || !event.ValidID(out.ID) || out.Type == "" {
		return out, fault.New(fault.Invalid, "bad_envelope", "The message is not a CloudEvent 1.0 with ce_id (a UUID), ce_type and ce_time")
	}
	out.Time = at.UTC()
	return out, nil
}

// header returns the value of a header, or "".
func header(m kafka.Message, key string) string {
	for _, h := range m.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// headers returns the headers of a message by their names.
func headers(m kafka.Message) map[string]string {
	h := map[string]string{}
	for _, header := range m.Headers {
		h[header.Key] = string(header.Value)
	}
	return h
}
