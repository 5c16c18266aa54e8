package guard

import (
	"net/http"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// MaxStreams is how many uploads, recordings and event streams one agent may have open at the same time. None of them has an
// overall timeout, and all agents share the stream slots of a service.
const MaxStreams = 16

// Streams counts the open streams of each agent.
type Streams struct {
	mu   sync.Mutex
	open map[string]int // by agent
}

// NewStreams returns a Streams without any open.
func NewStreams() *Streams { return &Streams{open: map[string]int{}} }

// PerAgent limits the concurrent requests of a caller at next to MaxStreams.
func (s *Streams) PerAgent(next CallerHandler) CallerHandler {
	return func(w http.ResponseWriter, r *http.Request, caller identity.Caller) {
		if !s.begin(caller.AgentID) {
			refuse(w, r, fault.New(fault.Limited, "too_many_streams", "Too many uploads and downloads at the same time: wait until one has ended").After(5*time.Second))
			return
		}
		defer s.end(caller.AgentID)
		next(w, r, caller)
	}
}

func (s *Streams) begin(agent string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[agent] >= MaxStreams {
		return false
	}
	s.open[agent]++
	return true
}

func (s *Streams) end(agent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[agent]--; s.open[agent] == 0 {
		delete(s.open, agent)
	}
}
