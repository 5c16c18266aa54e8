package access

import (
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/identity"
)

// ended are the sessions that have ended and the agents that are inactive, by their ids. Each is remembered for keep at
// least and twice as long at most: by then the last token is dead.
type ended struct {
	keep  time.Duration
	clock clock.Clock

	mu            sync.RWMutex
	recent, older map[string]mark
	began         time.Time // when recent was empty
}

// mark is what is known of an id. Of an agent the highest version counts: in a topic that has got more partitions old and
// new events may be read in any order.
type mark struct {
	version int64
	out     bool
}

func newEnded(keep time.Duration, c clock.Clock) *ended {
	return &ended{keep: keep, clock: c, recent: map[string]mark{}, began: c.Now()}
}

func (e *ended) onSessionEnded(sessionID string) { e.note(sessionID, mark{out: true}) }

func (e *ended) onAgentChanged(agentID string, version int64, active bool) {
	e.note(agentID, mark{version: version, out: !active})
}

func (e *ended) note(id string, m mark) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := e.clock.Now(); now.Sub(e.began) >= e.keep {
		e.older, e.recent, e.began = e.recent, map[string]mark{}, now
	}
	if known := e.of(id); known.version <= m.version {
		e.recent[id] = m
	}
}

func (e *ended) of(id string) mark {
	if m, ok := e.recent[id]; ok {
		return m
	}
	return e.older[id]
}

func (e *ended) has(c identity.Caller) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.of(c.SessionID).out || e.of(c.AgentID).out
}
