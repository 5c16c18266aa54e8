package rpc

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/convoflow/convoflow/libs/fault"
)

// Budget limits how many bytes of request bodies a process holds in memory at the same time, over all requests. It counts what has
// arrived and not what a request announces, so that a client cannot use up the budget by announcing much. A body beyond the budget
// fails at once: a queue would need memory too.
type Budget struct {
	limit int64
	held  atomic.Int64
}

// DefaultBodyMemory is the Budget of a Router, in bytes, unless LimitBodies changes it.
const DefaultBodyMemory = 64 << 20

// NewBudget returns a budget of that many bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Held returns how many bytes are in memory now.
func (b *Budget) Held() int64 { return b.held.Load() }

// Buffer returns an empty buffer for the bodies of one request. The caller must release it.
func (b *Budget) Buffer() *Buffer { return &Buffer{budget: b} }

func (b *Budget) reserve(bytes int64) error {
	for {
		held := b.held.Load()
		if held+bytes > b.limit { // compared first: added and subtracted again, a large body would make small ones beside it fail
			return fault.New(fault.Unavailable, "overloaded", "Too much is going on right now, try again").After(time.Second)
		}
		if b.held.CompareAndSwap(held, held+bytes) {
			return nil
		}
	}
}

// Buffer is the memory of one request. It is not safe for concurrent use.
type Buffer struct {
	budget *Budget
	held   int64
}

// firstPiece is how many bytes are reserved for a body before any has arrived.
const firstPiece = 4 << 10

// ReadAll reads a body to its end. length is its size in bytes, or -1 if it is unknown. The bytes count against the budget until
// Release, also after an error. The error of a body beyond the budget is a fault.
func (b *Buffer) ReadAll(body io.Reader, length int64) ([]byte, error) {
	size := int64(firstPiece)
	if length >= 0 && length < size {
		size = length + 1 // the end is noticed without another piece
	}
	if err := b.reserve(size); err != nil {
		return nil, err
	}
	raw := make([]byte, 0, size)
	for {
		n, err := body.Read(raw[len(raw):cap(raw)])
		raw = raw[:len(raw)+n]
		if errors.Is(err, io.EOF) {
			return raw, nil
		}
		if err != nil {
			return raw, err
		}
		if len(raw) < cap(raw) {
			continue
		}
		size := 2 * int64(cap(raw))
		if length >= int64(cap(raw)) {
			size = min(size, length+1)
		}
		if err := b.reserve(size); err != nil {
			return raw, err
		}
		grown := make([]byte, len(raw), size)
		copy(grown, raw)
		b.release(int64(cap(raw))) // both were in memory while one was copied to the other
		raw = grown
	}
}

func (b *Buffer) reserve(bytes int64) error {
	err := b.budget.reserve(bytes)
	if err == nil {
		b.held += bytes
	}
	return err
}

func (b *Buffer) release(bytes int64) {
	b.held -= bytes
	b.budget.held.Add(-bytes)
}

// Release returns all bytes to the budget. The caller must not use the bodies any more.
func (b *Buffer) Release() { b.release(b.held) }
