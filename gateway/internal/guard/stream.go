package guard

import (
	"net/http"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// MaxStreams is how many uploads, and how many recordings and event streams, one agent may have open at the same time. None of them
// has an overall timeout, and all agents share the slots of a service.
const MaxStreams = 16

// Streams counts the open streams of one kind, by agent and by client address: one address can have many accounts.
type Streams struct {
	perAgent, perAddress int

	mu                sync.Mutex
	agents, addresses map[string]int
}

// NewStreams returns a Streams without any open. An address may have addressFactor times as many as an agent: an office shares one.
func NewStreams(addressFactor int) *Streams {
	return &Streams{perAgent: MaxStreams, perAddress: MaxStreams * addressFactor, agents: map[string]int{}, addresses: map[string]int{}}
}

// PerCaller limits the concurrent requests at next of an agent and of an address.
func (s *Streams) PerCaller(next CallerHandler) CallerHandler {
	return func(w http.ResponseWriter, r *http.Request, caller identity.Caller) {
		address := network(r.Header.Get(forwardedFor))
		if !s.begin(caller.AgentID, address) {
			refuse(w, r, fault.New(fault.Limited, "too_many_streams", "Too many uploads and downloads at the same time: wait until one has ended").After(5*time.Second))
			return
		}
		defer s.end(caller.AgentID, address)
		next(w, r, caller)
	}
}

func (s *Streams) begin(agent, address string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.agents[agent] >= s.perAgent || s.addresses[address] >= s.perAddress {
		return false
	}
	s.agents[agent]++
	s.addresses[address]++
	return true
}

func (s *Streams) end(agent, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	decrease(s.agents, agent)
	decrease(s.addresses, address)
}

func decrease(counts map[string]int, key string) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}
