package event

import "time"

// Topic is how Kafka stores the events of one sort of aggregate.
type Topic struct {
	Name      string
	Producer  string        // the only service that publishes to it
	Types     []string      // the names of the event types that are published to it
	Compacted bool          // keeps the newest event of each key for ever
	Retention time.Duration // of a topic that is not compacted
}
