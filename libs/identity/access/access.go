// Package access says who may call now: whose token auth has signed, and whose session has not ended since. It is what the
// gateway and every service but auth, which asks its database, have in common.
package access

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const (
	keysTimeout = 5 * time.Second
	// lag is how much longer than a token lives its session's end is remembered: clocks differ, and events are published a
	// moment after they happened.
	lag = 10 * time.Minute
)

// Feed is where ended sessions are published: the topic of agents and sessions.
type Feed struct {
	Topic string
	// Watch subscribes to the topic: sessionEnded gets the id of each session that ends, agentChanged each state of an agent.
	Watch func(w *bus.Watcher, sessionEnded func(sessionID string), agentChanged func(agentID string, version int64, active bool))
}

// Access verifies callers. It is safe for concurrent use.
type Access struct {
	keys    *token.Remote
	cache   *Cache
	watcher *bus.Watcher
	ended   *ended
}

// New makes the access to a service. Nothing is fetched before what it joins runs.
func New(cfg Config, feed Feed, kafka *bus.Kafka, c clock.Clock, tel telemetry.Set) *Access {
	keys := token.Fetch(strings.TrimRight(cfg.AuthURL, "/")+"/.well-known/jwks.json", &http.Client{Timeout: keysTimeout}, tel)
	a := &Access{
		keys:    keys,
		cache:   NewCache(token.NewVerifier(keys.Key, c).Authenticate, c),
		watcher: bus.NewWatcher(kafka, feed.Topic, cfg.tokenTTL()+lag, tel),
		ended:   newEnded(cfg.tokenTTL()+lag, c),
	}
	feed.Watch(a.watcher, a.ended.onSessionEnded, a.ended.onAgentChanged)
	return a
}

// Join adds what keeps the access fresh to the parts of a process.
func (a *Access) Join(g *run.Group) {
	g.Add("keys", a.keys)
	g.Add("ended sessions", a.watcher)
}

// Authenticate says who sends a request. A token with a flaw or of a session that has ended is an Unauthenticated fault;
// while tokens cannot be judged it is Unavailable.
func (a *Access) Authenticate(r *http.Request) (identity.Caller, error) {
	caller, err := a.cache.Authenticate(r)
	if err != nil {
		return identity.Caller{}, err
	}
	return caller, a.admit(caller)
}

// admit fails when the session of a verified caller has ended. It is called with each request: it costs nothing.
func (a *Access) admit(c identity.Caller) error {
	// A process that does not know who was shut out before it began would let them in again.
	if !a.watcher.CaughtUp() {
		return fault.Wrap(bus.ErrBehind, fault.Unavailable, "auth_unavailable", "Tokens cannot be checked right now, try again").After(2 * time.Second)
	}
	if a.ended.has(c) {
		return fault.New(fault.Unauthenticated, "session_ended", "This session has ended: log in again")
	}
	return nil
}

// Ready fails while tokens cannot be judged: without the keys of auth, or before it is known which sessions have ended.
func (a *Access) Ready(ctx context.Context) error {
	return errors.Join(a.keys.Ready(ctx), a.watcher.Ready(ctx))
}
