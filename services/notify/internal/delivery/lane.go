package delivery

import "sync"

// lanes keep one slow endpoint from taking every worker of the process. An endpoint may always have a quarter of them, and
// more as long as half of all are free. It is safe for concurrent use.
type lanes struct {
	quarter, half int

	mu    sync.Mutex
	busy  map[string]int // sends under way by endpoint
	total int
}

func newLanes(workers int) *lanes {
	return &lanes{quarter: max(1, workers/4), half: workers / 2, busy: map[string]int{}}
}

// enter reports whether another send to the endpoint may begin; then leave must follow.
func (l *lanes) enter(endpointID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy[endpointID] >= l.quarter && l.total >= l.half {
		return false
	}
	l.busy[endpointID]++
	l.total++
	return true
}

func (l *lanes) leave(endpointID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.busy[endpointID]--; l.busy[endpointID] == 0 {
		delete(l.busy, endpointID)
	}
}
