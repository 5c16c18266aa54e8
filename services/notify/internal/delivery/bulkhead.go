package delivery

import "sync"

// Bulkhead prevents one slow endpoint from using every worker of the process. An endpoint may always use a quarter of them, and
// more while half of all are free. It is safe for concurrent use.
type Bulkhead struct {
	quarter, half int

	mu    sync.Mutex
	busy  map[string]int // requests in progress by endpoint
	total int
}

// NewBulkhead returns a bulkhead for a process with that many workers.
func NewBulkhead(workers int) *Bulkhead {
	return &Bulkhead{quarter: max(1, workers/4), half: workers / 2, busy: map[string]int{}}
}

// acquire reports whether another request to the endpoint may begin. If so, the caller must call release.
func (b *Bulkhead) acquire(endpointID string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy[endpointID] >= b.quarter && b.total >= b.half {
		return false
	}
	b.busy[endpointID]++
	b.total++
	return true
}

func (b *Bulkhead) release(endpointID string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total--
	if b.busy[endpointID]--; b.busy[endpointID] == 0 {
		delete(b.busy, endpointID)
	}
}
