package guard

import (
	"net/http"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// MaxStreams is how many uploads, recordings and event streams one agent may have open at the same time: each of them
// may last for as long as it likes, and all agents share the places of a service.
const MaxStreams = 16

// Streams counts what agents have open.
type Streams struct {
	mu   sync.Mutex
	open map[string]int // by agent
}

// NewStreams counts from none.
func NewStreams() *Streams { return &Streams{open: map[string]int{}} }

// PerAgent lets a caller have MaxStreams requests at next.
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
