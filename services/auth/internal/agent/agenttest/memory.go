// Package agenttest keeps agents in memory for tests, and holds every store of agents to the same promises.
package agenttest

import (
	"context"
	"sync"

	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// Memory is agents and sessions in memory, with the events that were published.
type Memory struct {
	mu       sync.Mutex
	agents   map[string]agent.Agent
	events   []contract.Event
	sessions []agent.Session
}

// NewMemory is an empty one.
func NewMemory() *Memory { return &Memory{agents: map[string]agent.Agent{}} }

// Events is what was published.
func (m *Memory) Events() []contract.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.events
}

// Create is that of agent.Agents.
func (m *Memory) Create(_ context.Context, register func(first bool) (agent.Agent, []contract.Event)) (agent.Agent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, events := register(len(m.agents) == 0)
	for _, other := range m.agents {
		if other.Email == a.Email {
			return agent.Agent{}, fault.New(fault.Conflict, "email_taken", "taken")
		}
	}
	m.agents[a.ID] = a
	m.events = append(m.events, events...)
	return a, nil
}

// Find is that of agent.Agents.
func (m *Memory) Find(_ context.Context, id string) (agent.Agent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.find(func(a agent.Agent) bool { return a.ID == id })
}

// FindByEmail is that of agent.Agents.
func (m *Memory) FindByEmail(_ context.Context, email string) (agent.Agent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.find(func(a agent.Agent) bool { return a.Email == email })
}

func (m *Memory) find(is func(agent.Agent) bool) (agent.Agent, error) {
	for _, a := range m.agents {
		if is(a) {
			return a, nil
		}
	}
	return agent.Agent{}, fault.New(fault.NotFound, "agent_not_found", "not found")
}

// Change is that of agent.Agents.
func (m *Memory) Change(_ context.Context, id string, fn func(*agent.Agent) ([]contract.Event, error)) (agent.Agent, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, err := m.find(func(a agent.Agent) bool { return a.ID == id })
	if err != nil {
		return a, err
	}
	events, err := fn(&a)
	if err != nil {
		return agent.Agent{}, err
	}
	m.agents[id] = a
	m.events = append(m.events, events...)
	return a, nil
}

// Sessions are the sessions beside the agents.
func (m *Memory) Sessions() *Sessions { return &Sessions{m} }

// Sessions is the sessions of a Memory.
type Sessions struct{ m *Memory }

// Create is that of agent.Sessions.
func (s *Sessions) Create(_ context.Context, session agent.Session) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.sessions = append(s.m.sessions, session)
	return nil
}

// List is every session, oldest first.
func (s *Sessions) List() []agent.Session {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.m.sessions
}
