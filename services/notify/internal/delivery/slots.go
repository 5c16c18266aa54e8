package delivery

import "time"

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
	all, total int
	busy       map[string]int // by endpoint
	turn       int            // which endpoint is the first of the next round
}

func newSlots(all int) slots { return slots{all: all, busy: map[string]int{}} }

func (s *slots) free() int { return s.all - s.total }

func (s *slots) take(endpointID string) {
	s.busy[endpointID]++
	s.total++
}

func (s *slots) release(endpointID string) {
	s.total--
	if s.busy[endpointID]--; s.busy[endpointID] == 0 {
		delete(s.busy, endpointID)
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
	room = map[string]int{}
	s.turn++
	for total := s.total; total < s.all; total++ {
		least := ""
		for i := range waiting {
			w := waiting[(i+s.turn)%len(waiting)]
			busy := s.busy[w.EndpointID] + room[w.EndpointID]
			may := w.AllowedIn <= 0 && room[w.EndpointID] < w.Due && (busy < max(1, s.all/4) || total < s.all/2)
			if may && (least == "" || busy < s.busy[least]+room[least]) {
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
