package doctor

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/event"
)

const maxLag = time.Minute // of the oldest message that is not handled

// CheckKafka checks the brokers, the topics of the platform, and the lag and the dead letters of a service.
func (r *Report) CheckKafka(ctx context.Context, service string, topics []event.Topic, cfg bus.Config) {
	ctx, cancel := context.WithTimeout(ctx, 2*checkTimeout)
	defer cancel()
	kafka, err := bus.Connect(cfg, service, topics)
	if err != nil {
		r.Fail("kafka", "check the KAFKA_ settings", "%v", err)
		return
	}
	defer kafka.Close()
	cluster, err := kafka.Inspect(ctx)
	if err != nil {
		r.Fail("kafka", "check KAFKA_BROKERS, KAFKA_TLS and KAFKA_SASL_*, and that the brokers' advertised addresses can be reached from here", "%v", err)
		return
	}
	r.OK("kafka", "%d brokers, %d topics", cluster.Brokers, len(cluster.Topics))
	missing := "missing: " + strings.Join(cluster.Missing, ", ")
	switch {
	case len(cluster.Missing) > 0 && cfg.CreateTopics:
		r.Warn("topics", "the services create them when they run", "%s", missing)
	case len(cluster.Missing) > 0:
		r.Fail("topics", "KAFKA_CREATE_TOPICS is false: an operator must create them, see Topics in docs/operations.md", "%s", missing)
	}
	for _, name := range slices.Sorted(maps.Keys(cluster.Topics)) {
		t := cluster.Topics[name]
		switch {
		case t.Offline > 0:
			r.Fail("topic", "start the brokers that have its replicas", "%s: %d of %d partitions have no leader", name, t.Offline, t.Partitions)
		case t.Degraded > 0:
			r.Warn("topic", "look after the brokers that have its replicas", "%s: replicas of %d of %d partitions are not in sync", name, t.Degraded, t.Partitions)
		case cluster.Brokers >= 3 && t.Replicas < 3:
			r.Warn("topic", "set KAFKA_REPLICATION=3 and add replicas with kafka-reassign-partitions", "%s has %d replicas: events are lost with a broker", name, t.Replicas)
		case t.Partitions < cfg.Partitions:
			r.Warn("topic", "add partitions with kafka-topics --alter while the producer is stopped and nothing waits: a key changes its partition", "%s has %d partitions, and KAFKA_PARTITIONS is %d", name, t.Partitions, cfg.Partitions)
		}
	}
	r.checkGroup(ctx, kafka, service)
}

func (r *Report) checkGroup(ctx context.Context, kafka *bus.Kafka, group string) {
	lags, err := kafka.Lags(ctx, group)
	if err != nil {
		r.Fail("consumer", "allow the user to read and describe the group "+group, "%v", err)
		return
	}
	waiting := int64(0)
	for _, l := range lags {
		waiting += l.Messages
		if age := r.Clock.Now().Sub(l.Oldest); l.Messages > 0 && age > maxLag {
			r.Fail("consumer", "its log says what it waits for", "%d messages of %s are not handled, the oldest for %s", l.Messages, l.Topic, age.Round(time.Second))
		}
	}
	if len(lags) > 0 {
		r.OK("consumer", "%d topics, %d messages are not handled", len(lags), waiting)
	}
	topics, err := kafka.DeadLetterTopics(ctx)
	for _, topic := range topics {
		if !strings.HasSuffix(topic, "."+group+".dlq") {
			continue
		}
		var letters []bus.DeadLetter
		if letters, err = kafka.DeadLetters(ctx, topic, false); err == nil && len(letters) > 0 {
			r.Warn("dead letters", "convoflow dlq list, repair the cause, convoflow dlq requeue "+topic, "%d in %s", len(letters), topic)
		}
	}
	if err != nil {
		r.Fail("dead letters", "allow the user to read the topics that end with .dlq", "%v", err)
	}
}
