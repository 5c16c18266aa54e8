package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

// Cluster is the state of Kafka.
type Cluster struct {
	Brokers int
	Topics  map[string]TopicState // those of the platform that exist
	Missing []string              // those that do not
}

// TopicState is the state of a topic.
type TopicState struct {
	Partitions int
	Replicas   int // of each partition, at least
	Offline    int // partitions without a leader
	Degraded   int // partitions of which a replica is not in sync
}

// Inspect reads the state of the cluster and of the platform's topics. It creates nothing.
func (k *Kafka) Inspect(ctx context.Context) (c Cluster, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	meta, err := k.client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return c, fmt.Errorf("read the topics: %w", err)
	}
	c.Brokers, c.Topics = len(meta.Brokers), map[string]TopicState{}
	for _, t := range k.topics {
		i := slices.IndexFunc(meta.Topics, func(found kafka.Topic) bool { return found.Name == k.name(t.Name) })
		if i < 0 || len(meta.Topics[i].Partitions) == 0 {
			c.Missing = append(c.Missing, k.name(t.Name))
			continue
		}
		state := TopicState{Partitions: len(meta.Topics[i].Partitions), Replicas: len(meta.Topics[i].Partitions[0].Replicas)}
		for _, p := range meta.Topics[i].Partitions {
			state.Replicas = min(state.Replicas, len(p.Replicas))
			if p.Error != nil {
				state.Offline++
			}
			if len(p.Isr) < len(p.Replicas) {
				state.Degraded++
			}
		}
		c.Topics[t.Name] = state
	}
	return c, nil
}

// Lag is the messages of a topic that a consumer group has not handled.
type Lag struct {
	Topic    string
	Messages int64
	Oldest   time.Time // when the oldest was published; zero if there is none
}

// Lags returns the lag of a group in each topic that it has read.
func (k *Kafka) Lags(ctx context.Context, group string) (lags []Lag, err error) {
	read, err := k.positions(ctx, group)
	if err != nil {
		return nil, err
	}
	for _, t := range k.topics {
		if read[t.Name] == nil {
			continue
		}
		lag := Lag{Topic: t.Name}
		if lag.Messages, lag.Oldest, err = k.backlog(ctx, group, t.Name); err != nil {
			return nil, err
		}
		lags = append(lags, lag)
	}
	return lags, nil
}

// positions returns the committed offsets of a group, by topic and partition, without topics of which it has committed none.
func (k *Kafka) positions(ctx context.Context, group string) (map[string]map[int]int64, error) {
	counts, err := k.partitions(ctx, k.topics...)
	if err != nil {
		return nil, err
	}
	found := map[string]map[int]int64{}
	for _, t := range k.topics {
		var partitions []int
		for p := range counts[t.Name] {
			partitions = append(partitions, p)
		}
		if len(partitions) == 0 {
			continue
		}
		committed, err := k.committed(ctx, group, t.Name, partitions)
		if err != nil {
			return nil, err
		}
		for p, offset := range committed {
			if offset < 0 {
				continue
			}
			if found[t.Name] == nil {
				found[t.Name] = map[int]int64{}
			}
			found[t.Name][p] = offset
		}
	}
	return found, nil
}

// ErrConsuming means that a consumer group has members, which would overwrite a new position.
var ErrConsuming = errors.New("the service is running")

// Rewound is a partition that a group shall read again.
type Rewound struct {
	Topic     string
	Partition int
	From, To  int64 // offsets of the first message to read again, and of the one after the last
}

// Rewind makes a consumer group read again what was published since a time, and nothing that it has not read before. Its inbox ignores
// what it has handled. It fails with ErrConsuming while a replica of the service runs. A dry run changes nothing.
func (k *Kafka) Rewind(ctx context.Context, group string, since time.Time, dryRun bool) (rewound []Rewound, err error) {
	if err := k.requireIdle(ctx, group); err != nil {
		return nil, err
	}
	read, err := k.positions(ctx, group)
	if err != nil {
		return nil, err
	}
	commits := map[string][]kafka.OffsetCommit{}
	for _, t := range k.topics {
		if read[t.Name] == nil {
			continue
		}
		starts, err := k.offsets(ctx, t.Name, func(p int) kafka.OffsetRequest { return kafka.TimeOffsetOf(p, since) })
		if err != nil {
			return nil, err
		}
		for p := range len(starts) {
			position, ok := read[t.Name][p]
			if start := starts[p]; ok && start >= 0 && start < position {
				rewound = append(rewound, Rewound{t.Name, p, start, position})
				commits[k.name(t.Name)] = append(commits[k.name(t.Name)], kafka.OffsetCommit{Partition: p, Offset: start})
			}
		}
	}
	if dryRun || len(commits) == 0 {
		return rewound, nil
	}
	return rewound, k.commit(ctx, group, commits)
}

// commit sets the offsets of a group that has no members.
func (k *Kafka) commit(ctx context.Context, group string, offsets map[string][]kafka.OffsetCommit) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := k.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: k.name(group), GenerationID: -1, Topics: offsets})
	if err != nil {
		return fmt.Errorf("commit the offsets of %s: %w", group, err)
	}
	for topic, partitions := range res.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return fmt.Errorf("commit the offset of %s in %s/%d: %w", group, topic, p.Partition, p.Error)
			}
		}
	}
	return nil
}

// requireIdle fails with ErrConsuming if a group has members.
func (k *Kafka) requireIdle(ctx context.Context, group string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := k.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{k.name(group)}})
	if err != nil {
		return fmt.Errorf("describe the consumer group: %w", err)
	}
	for _, g := range res.Groups {
		if g.Error != nil && !errors.Is(g.Error, kafka.GroupIdNotFound) {
			return fmt.Errorf("describe the consumer group: %w", g.Error)
		}
		if len(g.Members) > 0 {
			return ErrConsuming
		}
	}
	return nil
}
