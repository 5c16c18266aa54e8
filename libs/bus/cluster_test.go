package bus_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/event/eventtest"
)

// cluster starts a broker that a test controls, and connects to it.
func cluster(t *testing.T, partitions int) (*kfake.Cluster, *bus.Kafka) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	k, err := bus.Connect(config(c.ListenAddrs(), partitions), "test", eventtest.Topics())
	require.NoError(t, err)
	t.Cleanup(k.Close)
	return c, k
}

// Codes with which a broker refuses to write, from the protocol guide of Kafka.
const (
	notLeader         = 6
	messageTooLarge   = 10
	notEnoughReplicas = 19
)

// refuse makes a broker refuse to write what the function selects. Each request is for one partition.
func refuse(c *kfake.Cluster, code int16, selected func(topic string, p kmsg.ProduceRequestTopicPartition) bool) {
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		if !selected(req.Topics[0].Topic, req.Topics[0].Partitions[0]) {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.ProduceResponse)
		topic, partition := kmsg.NewProduceResponseTopic(), kmsg.NewProduceResponseTopicPartition()
		topic.Topic, partition.Partition, partition.ErrorCode = req.Topics[0].Topic, req.Topics[0].Partitions[0].Partition, code
		topic.Partitions = append(topic.Partitions, partition)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
}
