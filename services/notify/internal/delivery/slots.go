package delivery

import (
	"sync"
	"time"
)

// Waiting says how much waits for an endpoint that is enabled.
type Waiting struct {
	EndpointID string
	Limited    bool // its breaker is open, or it has a rate limit
	Due        int
	// NextIn is when the next delivery will be due that is not yet; nil for none.
	NextIn *time.Duration
	// AllowedIn is when its breaker and its rate limit allow the next request; 0 for now.
	AllowedIn time.Duration
}

// slots are the workers of a process. They prevent a slow endpoint from using all of them: an endpoint may always use a quarter, and more
// while half of all are free.
type slots struct {
	all int

	mu    sync.Mutex
	total int            // of those that are busy
	taken map[string]int // by endpoint
	sizes map[string]int // of the batches of endpoints that are quick: more than 1
	turn  int            // which endpoint is the first of the next round
}

const (
	// maxBatch limits the deliveries of one worker. A process that dies makes those of all its workers late by a lease.
	maxBatch = 16
	// quick is the time within which all deliveries of a batch are answered by an endpoint that gets larger ones.
	quick = 100 * time.Millisecond
)

// batch is what a worker has sent.
type batch struct {
	ok    bool // everything succeeded
	quick bool // in a short time
}

func newSlots(all int) *slots {
	return &slots{all: all, taken: map[string]int{}, sizes: map[string]int{}}
}

func (s *slots) busy() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

func (s *slots) free() int { return s.all - s.busy() }

// size is how many deliveries to an endpoint a worker gets at once. It doubles with each batch that is quick, and halves with one that is
// not. After a failure it is 1, so that an endpoint that hangs has one for each worker.
func (s *slots) size(endpointID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(1, s.sizes[endpointID])
}

// limit is how many deliveries of one endpoint the free workers take at most.
func (s *slots) limit() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := 1
	for _, n := range s.sizes {
		size = max(size, n)
	}
	return size * (s.all - s.total)
}

func (s *slots) take(endpointID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[endpointID]++
	s.total++
}

func (s *slots) release(endpointID string, b batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.taken[endpointID]--; s.taken[endpointID] == 0 {
		delete(s.taken, endpointID)
	}
	size := max(1, s.sizes[endpointID])
	switch {
	case b.ok && b.quick:
		size = min(2*size, maxBatch)
	case b.ok:
		size /= 2
	default:
		size = 1
	}
	if s.sizes[endpointID] = size; size <= 1 {
		delete(s.sizes, endpointID)
	}
}

// allot divides the free workers among the endpoints: one after the other to the endpoint that has the fewest. It returns the room of
// each that gets any, and how long to wait for what is not due or not allowed yet.
func (s *slots) allot(waiting []Waiting) (room map[string]int, wait time.Duration) {
	wait = pollInterval
	for _, w := range waiting {
		switch {
		case w.Due > 0 && w.AllowedIn > 0:
			wait = min(wait, max(w.AllowedIn, minWait))
		case w.NextIn != nil:
			wait = min(wait, max(*w.NextIn, w.AllowedIn))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	room = map[string]int{}
	s.turn++
	for total := s.total; total < s.all; total++ {
		least := ""
		for i := range waiting {
			w := waiting[(i+s.turn)%len(waiting)]
			busy := s.taken[w.EndpointID] + room[w.EndpointID]
			may := w.AllowedIn <= 0 && room[w.EndpointID] < w.Due && (busy < max(1, s.all/4) || total < s.all/2)
			if may && (least == "" || busy < s.taken[least]+room[least]) {
				least = w.EndpointID
			}
		}
		if least == "" {
			break
		}
		room[least]++
	}
	return room, wait
}
