package broker_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/stretchr/testify/require"
)

// BenchmarkLatency measures one message from WriteMessages to FetchMessage in a consumer group.
func BenchmarkLatency(b *testing.B) {
	addr := start(b, b.TempDir()).Addr()
	createTopic(b, addr)
	w, r := newWriter(b, addr), newReader(b, addr)
	write(b, w, "join the group")
	read(b, r, 1, false)
	for b.Loop() {
		write(b, w, "x")
		read(b, r, 1, false)
	}
}

// BenchmarkThroughput measures messages of 1 kB from 16 concurrent producers that wait for each acknowledgement.
func BenchmarkThroughput(b *testing.B) {
	addr := start(b, b.TempDir()).Addr()
	createTopic(b, addr)
	w := newWriter(b, addr)
	value := []byte(strings.Repeat("x", 1000))
	todo := make(chan struct{}, b.N)
	for range b.N {
		todo <- struct{}{}
	}
	close(todo)
	b.SetBytes(int64(len(value)))
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range todo {
				if err := w.WriteMessages(b.Context(), kafka.Message{Value: value}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkBatches measures batches of 100 messages of 1 kB, one after another.
func BenchmarkBatches(b *testing.B) {
	addr := start(b, b.TempDir()).Addr()
	createTopic(b, addr)
	w := newWriter(b, addr)
	batch := make([]kafka.Message, 100)
	for i := range batch {
		batch[i].Value = []byte(strings.Repeat("x", 1000))
	}
	b.SetBytes(int64(len(batch)) * 1000)
	for b.Loop() {
		require.NoError(b, w.WriteMessages(b.Context(), batch...))
	}
}
