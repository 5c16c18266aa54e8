package telemetry_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/telemetry"
)

// writes records each write.
type writes struct {
	mu      sync.Mutex
	written []string
	wrote   chan struct{} // receives a value per write, if not nil
}

func (p *writes) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written = append(p.written, string(b))
	if p.wrote != nil {
		p.wrote <- struct{}{}
	}
	return len(b), nil
}

func (p *writes) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.written)
}

func TestLinesAreWrittenTogetherUnderLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := writes{wrote: make(chan struct{}, 9)}
		b := telemetry.NewBatch(&log)
		for _, line := range []string{"1\n", "2\n", "3\n"} {
			_, err := b.Write([]byte(line))
			require.NoError(t, err)
		}
		<-log.wrote
		require.Equal(t, []string{"1\n"}, log.all(), "the first line immediately")
		<-log.wrote
		require.Equal(t, []string{"1\n", "2\n3\n"}, log.all())
		<-time.After(time.Second) // virtual time
		_, _ = b.Write([]byte("4\n"))
		require.Equal(t, []string{"1\n", "2\n3\n", "4\n"}, log.all(), "immediately again after an idle period")
		_, _ = b.Write([]byte("5\n"))
		b.Flush()
		_, _ = b.Write([]byte("6\n"))
		require.Equal(t, []string{"1\n", "2\n3\n", "4\n", "5\n", "6\n"}, log.all(), "nothing is buffered after Flush")
	})
}

func TestABatchIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log writes
		b := telemetry.NewBatch(&log)
		line := bytes.Repeat([]byte("x"), 1000)
		for range 100 {
			_, _ = b.Write(line)
		}
		require.Len(t, log.all(), 1+99/33, "one immediately, then 32 KiB per write")
	})
}

func TestNoLineIsLost(t *testing.T) {
	t.Parallel()
	var log writes
	b := telemetry.NewBatch(&log)
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for n := range 500 {
				_, _ = fmt.Fprintf(b, "%d-%d\n", w, n)
			}
		})
	}
	writers.Wait()
	b.Flush()
	lines := strings.Split(strings.TrimSpace(strings.Join(log.all(), "")), "\n")
	require.Len(t, lines, 8*500)
	last := map[string]int{}
	for _, line := range lines {
		var w, n int
		_, err := fmt.Sscanf(line, "%d-%d", &w, &n)
		require.NoError(t, err)
		require.Equal(t, last[fmt.Sprint(w)], n, "in order")
		last[fmt.Sprint(w)]++
	}
}
