package event

import "time"

// Topic is a Kafka topic with the events of one kind of aggregate.
type Topic struct {
	Name      string
	Producer  string        // the only service that publishes to it; empty for a topic that several publish to
	Types     []string      // names of the event types that are published to it
	Compacted bool          // Kafka keeps the newest event of each key and deletes older ones
	Retention time.Duration // how long events are stored; zero if Compacted
	// Partitions is the number of partitions to create it with; zero means the number in the configuration.
	Partitions int
}
