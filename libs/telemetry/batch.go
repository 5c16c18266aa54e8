package telemetry

import (
	"io"
	"sync"
	"time"
)

const (
	batchWait = 10 * time.Millisecond
	batchSize = 32 << 10 // bytes
)

// Batch buffers the lines of a log. A line after an idle period is written immediately, and those of the next 10 ms are written
// together: under load, one write(2) per line would be a tenth of the cost of a proxied request. It is safe for concurrent use.
type Batch struct {
	w io.Writer

	mu      sync.Mutex
	pending []byte
	timer   *time.Timer
	waiting bool // for the timer, which writes the pending lines
	flushed bool // lines are no longer buffered
}

// NewBatch returns a Batch that writes to w. Call Flush at the end of the process.
func NewBatch(w io.Writer) *Batch {
	b := &Batch{w: w, pending: make([]byte, 0, 2*batchSize)}
	b.timer = time.AfterFunc(batchWait, b.tick)
	b.timer.Stop()
	return b
}

// Write buffers or writes a line. It never fails: errors of w are discarded, because there is no other place to log them.
func (b *Batch) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending = append(b.pending, line...)
	if b.flushed {
		b.write()
	} else if !b.waiting {
		b.waiting = true
		b.timer.Reset(batchWait)
		b.write()
	} else if len(b.pending) >= batchSize {
		b.write()
	}
	return len(line), nil
}

// Flush writes the pending lines. Later lines are written immediately.
func (b *Batch) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flushed = true
	b.write()
}

// tick runs after 10 ms. It writes the pending lines and restarts the timer, unless there are none.
func (b *Batch) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting = len(b.pending) > 0; b.waiting {
		b.write()
		b.timer.Reset(batchWait)
	}
}

func (b *Batch) write() {
	if len(b.pending) > 0 {
		_, _ = b.w.Write(b.pending)
		b.pending = b.pending[:0]
	}
}
