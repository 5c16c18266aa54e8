// Package agenttest keeps agents in memory for tests, and holds every store of agents to the same promises.
package agenttest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// Memory is agents, sessions and failed attempts in memory, with the events that were published.
type Memory struct {
	mu       sync.Mutex
	agents   map[string]agent.Agent
	sessions map[string]agent.Session
	failures map[string]failure
	events   []event.Event
}

type failure struct {
	n  int
	at time.Time
}

// NewMemory is an empty one.
func NewMemory() *Memory {
	return &Memory{agents: map[string]agent.Agent{}, sessions: map[string]agent.Session{}, failures: map[string]failure{}}
}

type inside struct{}

// InTx is that of agent.Tx. What a failing fn has done is undone.
func (m *Memory) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	if ctx.Value(inside{}) == m {
		return fn(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	agents, sessions, events := maps.Clone(m.agents), maps.Clone(m.sessions), m.events
	err := fn(context.WithValue(ctx, inside{}, m))
	if err != nil {
		m.agents, m.sessions, m.events = agents, sessions, events
	}
	return err
}

// Events is what was published.
func (m *Memory) Events() []event.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.events
}

// Create is that of agent.Agents.
func (m *Memory) Create(ctx context.Context, fn func(first bool) (agent.Agent, []event.Event)) (a agent.Agent, err error) {
	err = m.InTx(ctx, func(context.Context) error {
		var events []event.Event
		a, events = fn(len(m.agents) == 0)
		return m.save(&a, events)
	})
	return a, err
}

func (m *Memory) save(a *agent.Agent, events []event.Event) error {
	for _, other := range m.agents {
		if other.Email == a.Email && other.ID != a.ID {
			*a = agent.Agent{}
			return fault.New(fault.Conflict, "email_taken", "taken")
		}
	}
	m.agents[a.ID] = *a
	m.events = append(m.events, events...)
	return nil
}

// Find is that of agent.Agents.
func (m *Memory) Find(ctx context.Context, id string) (agent.Agent, error) {
	return m.find(ctx, func(a agent.Agent) bool { return a.ID == id })
}

// FindByEmail is that of agent.Agents.
func (m *Memory) FindByEmail(ctx context.Context, email string) (agent.Agent, error) {
	return m.find(ctx, func(a agent.Agent) bool { return a.Email == email })
}

func (m *Memory) find(ctx context.Context, is func(agent.Agent) bool) (found agent.Agent, err error) {
	err = m.InTx(ctx, func(context.Context) error {
		for _, a := range m.agents {
			if is(a) {
				found = a
				return nil
			}
		}
		return fault.New(fault.NotFound, "agent_not_found", "not found")
	})
	return found, err
}

// List is that of agent.Agents, without cursors.
func (m *Memory) List(ctx context.Context, f agent.Filter) (p agent.Page, err error) {
	err = m.InTx(ctx, func(context.Context) error {
		for _, a := range m.agents {
			named := strings.Contains(a.Email, strings.ToLower(f.Q)) || strings.Contains(strings.ToLower(a.FullName), strings.ToLower(f.Q))
			if named && (f.Role == "" || f.Role == a.Role) && (f.IsActive == nil || *f.IsActive == a.IsActive) {
				p.Items = append(p.Items, a)
			}
		}
		slices.SortFunc(p.Items, func(a, b agent.Agent) int {
			return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.ID, a.ID))
		})
		p.Items = p.Items[min(f.Skip, len(p.Items)):]
		p.Items = p.Items[:min(f.Limit, len(p.Items))]
		return nil
	})
	return p, err
}

// Change is that of agent.Agents.
func (m *Memory) Change(ctx context.Context, id string, fn func(*agent.Agent) ([]event.Event, error)) (a agent.Agent, err error) {
	err = m.InTx(ctx, func(ctx context.Context) error {
		if a, err = m.Find(ctx, id); err != nil {
			return err
		}
		before := a
		events, err := fn(&a)
		if err != nil {
			return err
		}
		if leads(before) && !leads(a) && !slices.ContainsFunc(slices.Collect(maps.Values(m.agents)), func(o agent.Agent) bool { return o.ID != id && leads(o) }) {
			return fault.New(fault.Conflict, "last_admin", "last")
		}
		return m.save(&a, events)
	})
	if err != nil {
		return agent.Agent{}, err
	}
	return a, nil
}

func leads(a agent.Agent) bool { return a.IsActive && a.Role == identity.Admin }

// Sessions are the sessions beside the agents.
func (m *Memory) Sessions() *Sessions { return &Sessions{m} }

// Sessions is the sessions of a Memory.
type Sessions struct{ m *Memory }

// Create is that of agent.Sessions.
func (s *Sessions) Create(ctx context.Context, session agent.Session, passwordSetAt time.Time) error {
	return s.m.InTx(ctx, func(context.Context) error {
		a, ok := s.m.agents[session.AgentID]
		if !ok || !a.IsActive || !a.PasswordSetAt.Equal(passwordSetAt) {
			return noSession()
		}
		s.m.sessions[session.ID] = session
		return nil
	})
}

func noSession() error { return fault.New(fault.NotFound, "session_not_found", "not found") }

// Find is that of agent.Sessions.
func (s *Sessions) Find(ctx context.Context, id string) (session agent.Session, a agent.Agent, err error) {
	err = s.m.InTx(ctx, func(context.Context) error {
		found, ok := s.m.sessions[id]
		if !ok {
			return noSession()
		}
		session, a = found, s.m.agents[found.AgentID]
		return nil
	})
	return session, a, err
}

// List is that of agent.Sessions, without pages.
func (s *Sessions) List(ctx context.Context, f agent.SessionFilter) (p agent.SessionPage, err error) {
	err = s.m.InTx(ctx, func(context.Context) error {
		for _, session := range s.m.sessions {
			if session.AgentID == f.AgentID {
				p.Items = append(p.Items, session)
			}
		}
		slices.SortFunc(p.Items, func(a, b agent.Session) int {
			return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.ID, a.ID))
		})
		return nil
	})
	return p, err
}

// Change is that of agent.Sessions.
func (s *Sessions) Change(ctx context.Context, id string, fn func(*agent.Session, agent.Agent) ([]event.Event, error)) error {
	return s.m.InTx(ctx, func(ctx context.Context) error {
		session, a, err := s.Find(ctx, id)
		if err != nil {
			return err
		}
		events, err := fn(&session, a)
		if err != nil {
			return err
		}
		s.m.events = append(s.m.events, events...)
		if session.EndedAt.IsZero() {
			s.m.sessions[id] = session
		} else {
			delete(s.m.sessions, id)
		}
		return nil
	})
}

// Remove is that of agent.Sessions.
func (s *Sessions) Remove(ctx context.Context, agentID, keep, reason string, now time.Time) error {
	return s.m.InTx(ctx, func(context.Context) error {
		for id, session := range s.m.sessions {
			if session.AgentID == agentID && id != keep {
				delete(s.m.sessions, id)
				s.m.events = append(s.m.events, agent.Ended(agentID, id, reason, now))
			}
		}
		return nil
	})
}

// Attempts are the failed attempts beside the agents.
func (m *Memory) Attempts() *Attempts { return &Attempts{m} }

// Attempts is the failed attempts of a Memory.
type Attempts struct{ m *Memory }

// Create is that of agent.Attempts.
func (s *Attempts) Create(_ context.Context, a agent.Attempt) (agent.Attempt, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	delays := agent.Delays()
	var slow [][]byte
	for _, k := range a.Keys() {
		f, ok := s.m.failures[string(k)]
		if !ok || a.At.Sub(f.at) >= agent.FailureWindow {
			continue
		}
		a.Known = true
		if delay := delays[min(f.n, len(delays)-1)]; delay > 0 {
			slow = append(slow, k)
			a.Wait = max(a.Wait, f.at.Add(delay).Sub(a.At))
		}
	}
	if a.Wait > 0 {
		return a, nil
	}
	for _, k := range slow {
		s.m.failures[string(k)] = failure{min(s.m.failures[string(k)].n+1, len(delays)), a.At}
	}
	a.Counted = slow
	return a, nil
}

// Change is that of agent.Attempts.
func (s *Attempts) Change(_ context.Context, a agent.Attempt) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for _, k := range a.Keys() {
		f := s.m.failures[string(k)]
		if a.At.Sub(f.at) >= agent.FailureWindow {
			f.n = 0
		}
		if !a.HasCounted(k) {
			s.m.failures[string(k)] = failure{min(f.n+1, len(agent.Delays())), a.At}
		}
	}
	return nil
}

// Remove is that of agent.Attempts.
func (s *Attempts) Remove(_ context.Context, a agent.Attempt) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	delete(s.m.failures, string(a.Account))
	if a.HasCounted(a.Address) {
		f := s.m.failures[string(a.Address)]
		s.m.failures[string(a.Address)] = failure{f.n - 1, a.At.Add(-agent.Delays()[f.n-1])}
	}
	return nil
}
