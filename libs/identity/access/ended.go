package access

import (
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/identity"
)

// ended are the sessions that have ended and the agents that are inactive, by their ids. Each is remembered for keep at
// least and twice as long at most: by then the last token is dead.
type ended struct {
	keep  time.Duration
	clock clock.Clock

	mu            sync.RWMutex
	recent, older map[string]struct{}
	began         time.Time // when recent was empty
}

func newEnded(keep time.Duration, c clock.Clock) *ended {
	return &ended{keep: keep, clock: c, recent: map[string]struct{}{}, began: c.Now()}
}

func (e *ended) onSessionRevoked(r contract.Received[contract.SessionEnd]) { e.add(r.Data.SessionID) }

func (e *ended) onAgentChanged(r contract.Received[contract.Agent]) {
	if r.Data.IsActive {
		e.remove(r.Data.AgentID)
		return
	}
	e.add(r.Data.AgentID)
}

func (e *ended) add(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := e.clock.Now(); now.Sub(e.began) >= e.keep {
		e.older, e.recent, e.began = e.recent, map[string]struct{}{}, now
	}
	e.recent[id] = struct{}{}
}

func (e *ended) remove(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.recent, id)
	delete(e.older, id)
}

func (e *ended) has(c identity.Caller) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, id := range []string{c.SessionID, c.AgentID} {
		if _, ok := e.recent[id]; ok {
			return true
		}
		if _, ok := e.older[id]; ok {
			return true
		}
	}
	return false
}
