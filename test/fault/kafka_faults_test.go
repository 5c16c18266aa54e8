package fault

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/convoflow/convoflow/libs/event"
)

func kafkaDown(n *nemesis, d time.Duration) {
	n.kafka.down(n.t)
	n.last(d)
	n.kafka.start(n.t)
}

// eventTopics are the topics that the platform publishes to and reads.
var eventTopics = map[string]string{"auth.agents.v1": "agent.updated", "calls.calls.v1": "call.updated", "crm.clients.v1": "client.updated", "crm.followups.v1": "followup.scheduled"}

// poison publishes messages that no consumer can read, into the partitions of all topics.
func poison(n *nemesis) {
	var ids []string
	for topic, typ := range eventTopics {
		for range poisons {
			id := event.NewID()
			ids = append(ids, id)
			n.publish(kafka.Message{Topic: topic, Key: []byte(event.NewID()), Value: []byte("no json"), Headers: headers(id, typ)})
		}
	}
	if !within(deadWithin, func() bool { return len(n.missingDead(ids)) == 0 }) {
		n.fail("I2", "%d of %d poison messages are in no dead-letter topic after %s", len(n.missingDead(ids)), len(ids), deadWithin)
	}
}

// missingDead returns which of ids are in no dead-letter topic.
func (n *nemesis) missingDead(ids []string) (missing []string) {
	n.fetch()
	dead := map[string]bool{}
	for _, m := range n.log.dead() {
		dead[m.ID] = true
	}
	for _, id := range ids {
		if !dead[id] {
			missing = append(missing, id)
		}
	}
	return missing
}

// unknownTypes publishes events of types that a newer version publishes: they are skipped.
func unknownTypes(n *nemesis) {
	for topic := range eventTopics {
		for range 12 {
			key := event.NewID()
			n.publish(kafka.Message{Topic: topic, Key: []byte(key), Value: []byte(`{"id":"` + key + `","version":1}`), Headers: headers(event.NewID(), "thing.exploded")})
		}
	}
	n.last(6 * time.Second)
	n.fetch()
	for _, m := range n.log.dead() {
		if m.Type == "thing.exploded" {
			n.fail("I2", "an unknown type was dead-lettered in %s", m.Topic)
			return
		}
	}
}

// duplicateTopics publishes every record of every topic once more.
func duplicateTopics(n *nemesis) {
	n.fetch()
	ctx, cancel := context.WithTimeout(n.t.Context(), startTimeout)
	defer cancel()
	for _, topic := range slices.Sorted(maps.Keys(eventTopics)) {
		messages, err := n.log.records(ctx, topic)
		if err != nil {
			n.t.Fatalf("read %s: %v", topic, err)
		}
		for i := range messages {
			messages[i] = kafka.Message{Topic: topic, Key: messages[i].Key, Value: messages[i].Value, Headers: messages[i].Headers}
		}
		n.publish(messages...)
	}
}

func headers(id, typ string) []kafka.Header {
	return []kafka.Header{
		{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte(id)}, {Key: "ce_type", Value: []byte(typ)},
		{Key: "ce_source", Value: []byte("/test/fault")}, {Key: "ce_time", Value: []byte("2026-11-24T09:00:00Z")}, {Key: "content-type", Value: []byte("application/json")},
	}
}

// publish writes messages. Those with an id that the platform has not committed are the fault's own.
func (n *nemesis) publish(messages ...kafka.Message) {
	n.t.Helper()
	own := map[string]bool{}
	for _, m := range n.log.published {
		own[m.ID] = true
	}
	for _, m := range messages {
		if id := describe(m).ID; !own[id] {
			n.log.foreign[id] = true
		}
	}
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	w := &kafka.Writer{Addr: kafka.TCP(n.kafka.addresses()...), Transport: transport, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond, Balancer: &kafka.Murmur2Balancer{}}
	ctx, cancel := context.WithTimeout(n.t.Context(), startTimeout)
	defer cancel()
	if err := w.WriteMessages(ctx, messages...); err != nil {
		n.t.Fatalf("publish: %v", err)
	}
	_ = w.Close()
}

// fetch reads what was published. It retries while Kafka is away.
func (n *nemesis) fetch() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), startTimeout)
	defer cancel()
	var err error
	if !within(startTimeout, func() bool { err = n.log.fetch(ctx); return err == nil }) {
		n.t.Fatal(err)
	}
}

// brokerDies kills each broker in turn. Every event of the seconds after that, of any partition, must be handled soon.
func brokerDies(n *nemesis) {
	a := n.kafka.(*apache)
	for i := range a.brokers {
		a.Kill(i)
		n.last(5 * time.Second)
		last := n.log.count(`select coalesce(max(seq), 0)::int from fault.committed`)
		left := await(muteWithin, func() []string {
			if left := n.log.unhandled(last); left > 0 {
				return []string{fmt.Sprintf("%d events are not handled", left)}
			}
			return nil
		})
		if len(left) > 0 {
			n.fail("I2", "%s: nothing was for %s after broker %d was killed", left[0], muteWithin, i+1)
		}
		a.start(n.t)
		n.last(5 * time.Second)
	}
}

// topicLost deletes topics whose events have all been handled.
func topicLost(n *nemesis) {
	n.load.pause()
	n.settle()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(n.kafka.addresses()...), Transport: transport, Timeout: 20 * time.Second}
	for _, topic := range []string{"calls.calls.v1", "crm.clients.v1", "auth.agents.v1"} {
		if _, err := client.DeleteTopics(n.t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{topic}}); err != nil {
			n.t.Fatalf("delete %s: %v", topic, err)
		}
		n.log.offsets[topic] = nil
	}
	n.last(5 * time.Second) // brokers delete later than they answer, and what is written until then is deleted as well
	n.load.begin()
	n.last(20 * time.Second)
}

// kafkaEmpty makes new brokers of all.
func kafkaEmpty(n *nemesis) {
	n.load.pause()
	n.settle()
	a := n.kafka.(*apache)
	a.down(n.t)
	a.wipe(n.t)
	a.start(n.t)
	clear(n.log.offsets)
	n.load.begin()
	n.last(20 * time.Second)
}
