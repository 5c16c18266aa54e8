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

// Batch writes the lines of a log. A line that comes after a quiet moment is written at once, and those that follow it
// within 10 ms together: under load a write(2) per line would be a tenth of what a proxied request costs.
type Batch struct {
	w io.Writer

	mu      sync.Mutex
	pending []byte
	timer   *time.Timer
	waiting bool // for the timer, which writes what is pending
	through bool // nothing waits any more
}

// NewBatch writes to w. Flush it at the end of the process.
func NewBatch(w io.Writer) *Batch {
	b := &Batch{w: w, pending: make([]byte, 0, 2*batchSize)}
	b.timer = time.AfterFunc(batchWait, b.tick)
	b.timer.Stop()
	return b
}

// Write takes a line. Whether an earlier one could be written is not known here, and a log has nobody to tell.
func (b *Batch) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending = append(b.pending, line...)
	if b.through {
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

// Flush writes what is pending. Lines that come later are written at once.
func (b *Batch) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.through = true
	b.write()
}

// tick ends the 10 ms. The next follow at once, unless nothing came.
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
