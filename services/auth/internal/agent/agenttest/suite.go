package agenttest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// Suite holds a store of agents to what agent.Agents promises. empty makes one without agents and a way to see the types of
// the events it has published.
func Suite(t *testing.T, empty func(t *testing.T) (agents agent.Agents, published func() []string)) {
	t.Run("an agent is found as it was created", func(t *testing.T) {
		t.Parallel()
		agents, published := empty(t)
		a, err := agents.Create(t.Context(), func(bool) (agent.Agent, []contract.Event) { return sample("asha@example.com") })
		require.NoError(t, err)
		byID, err := agents.Find(t.Context(), a.ID)
		require.NoError(t, err)
		require.Equal(t, a, byID)
		byEmail, err := agents.FindByEmail(t.Context(), a.Email)
		require.NoError(t, err)
		require.Equal(t, a, byEmail)
		require.Equal(t, []string{"agent.registered"}, published())
	})
	t.Run("nobody is agent_not_found", func(t *testing.T) {
		t.Parallel()
		agents, _ := empty(t)
		_, err := agents.Find(t.Context(), contract.NewID())
		require.Equal(t, "agent_not_found", fault.Of(err).Code)
		none, err := agents.FindByEmail(t.Context(), "nobody@example.com")
		require.Equal(t, "agent_not_found", fault.Of(err).Code)
		require.Zero(t, none)
		_, err = agents.Change(t.Context(), contract.NewID(), func(*agent.Agent) ([]contract.Event, error) { return nil, nil })
		require.Equal(t, "agent_not_found", fault.Of(err).Code)
	})
	t.Run("of many at once one is first", func(t *testing.T) {
		t.Parallel()
		agents, _ := empty(t)
		firsts := race(8, func(i int) bool {
			var was bool
			_, err := agents.Create(t.Context(), func(first bool) (agent.Agent, []contract.Event) {
				was = first
				return sample(fmt.Sprintf("agent%d@example.com", i))
			})
			return err == nil && was
		})
		require.Equal(t, 1, firsts)
	})
	t.Run("of many with one address one is created", func(t *testing.T) {
		t.Parallel()
		agents, published := empty(t)
		created := race(8, func(int) bool {
			_, err := agents.Create(t.Context(), func(bool) (agent.Agent, []contract.Event) { return sample("asha@example.com") })
			return err == nil
		})
		require.Equal(t, 1, created)
		_, err := agents.Create(t.Context(), func(bool) (agent.Agent, []contract.Event) { return sample("asha@example.com") })
		require.Equal(t, "email_taken", fault.Of(err).Code)
		require.Equal(t, []string{"agent.registered"}, published())
	})
	t.Run("a change is kept with its events, one that fails is not", func(t *testing.T) {
		t.Parallel()
		agents, published := empty(t)
		a, err := agents.Create(t.Context(), func(bool) (agent.Agent, []contract.Event) { return sample("asha@example.com") })
		require.NoError(t, err)
		changed, err := agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]contract.Event, error) {
			a.FullName, a.Role, a.IsActive, a.PasswordHash, a.Email, a.Version = "Asha Iyer", identity.Admin, false, "another", "iyer@example.com", 2
			a.UpdatedAt = a.UpdatedAt.Add(time.Minute)
			return []contract.Event{contract.AgentUpdated.New(a.UpdatedAt, contract.Agent{AgentID: a.ID})}, nil
		})
		require.NoError(t, err)
		found, err := agents.Find(t.Context(), a.ID)
		require.NoError(t, err)
		require.Equal(t, changed, found)
		require.Equal(t, "Asha Iyer", found.FullName)

		refused := errors.New("no")
		_, err = agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]contract.Event, error) {
			a.FullName = "Somebody Else"
			return nil, refused
		})
		require.ErrorIs(t, err, refused)
		found, err = agents.Find(t.Context(), a.ID)
		require.NoError(t, err)
		require.Equal(t, changed, found)
		require.Equal(t, []string{"agent.registered", "agent.updated"}, published())
	})
	t.Run("changes of one agent come one after the other", func(t *testing.T) {
		t.Parallel()
		agents, _ := empty(t)
		a, err := agents.Create(t.Context(), func(bool) (agent.Agent, []contract.Event) { return sample("asha@example.com") })
		require.NoError(t, err)
		done := race(8, func(int) bool {
			_, err := agents.Change(t.Context(), a.ID, func(a *agent.Agent) ([]contract.Event, error) {
				a.Version++
				return nil, nil
			})
			return err == nil
		})
		require.Equal(t, 8, done)
		found, err := agents.Find(t.Context(), a.ID)
		require.NoError(t, err)
		require.EqualValues(t, 9, found.Version)
	})
}

func sample(email string) (agent.Agent, []contract.Event) {
	at := time.Date(2026, 11, 24, 9, 30, 0, 123456000, time.UTC)
	a := agent.Agent{
		ID: contract.NewID(), Version: 1, Email: email, PasswordHash: "hash", FullName: "Asha Rao",
		Role: identity.Agent, IsActive: true, CreatedAt: at, UpdatedAt: at,
	}
	return a, []contract.Event{contract.AgentRegistered.New(at, contract.Agent{AgentID: a.ID})}
}

// race does something n times at once and returns how often it was true.
func race(n int, do func(i int) bool) int {
	var wins int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if do(i) {
				mu.Lock()
				defer mu.Unlock()
				wins++
			}
		})
	}
	all.Wait()
	return wins
}
