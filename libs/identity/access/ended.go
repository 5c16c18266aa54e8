package access

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/identity"
)

// ended stores the sessions that have ended and the agents that are inactive, by their ids as UUIDs: their spelling does not
// matter. Each is stored for ttl to twice the ttl; after ttl, the last token has expired. It is safe for concurrent use.
type ended struct {
	ttl   time.Duration
	clock clock.Clock

	mu            sync.RWMutex
	recent, older map[uuid.UUID]mark
	began         time.Time // when recent was created
}

// mark is the state of an id. For an agent, the highest version counts: after partitions have been added to the topic, old and
// new events may be read in any order.
type mark struct {
	version int64
	refused bool
}

func newEnded(ttl time.Duration, c clock.Clock) *ended {
	return &ended{ttl: ttl, clock: c, recent: map[uuid.UUID]mark{}, began: c.Now()}
}

func (e *ended) onSessionEnded(sessionID string) { e.set(sessionID, mark{refused: true}) }

func (e *ended) onAgentChanged(agentID string, version int64, active bool) {
	e.set(agentID, mark{version: version, refused: !active})
}

// set ignores an id that is not a UUID, because no token can have it.
func (e *ended) set(text string, m mark) {
	id, err := uuid.Parse(text)
	if err != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := e.clock.Now(); now.Sub(e.began) >= e.ttl {
		e.older, e.recent, e.began = e.recent, map[uuid.UUID]mark{}, now
	}
	if current := e.of(id); current.version <= m.version {
		e.recent[id] = m
	}
}

func (e *ended) of(id uuid.UUID) mark {
	if m, ok := e.recent[id]; ok {
		return m
	}
	return e.older[id]
}

// has reports whether the session or the agent of a verified token is refused. One that is no UUID is.
func (e *ended) has(c identity.Caller) bool {
	session, err := uuid.Parse(c.SessionID)
	agent, agentErr := uuid.Parse(c.AgentID)
	if err != nil || agentErr != nil {
		return true
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.of(session).refused || e.of(agent).refused
}
