// Package access authenticates callers: it accepts a token that auth has signed, if the token's session has not ended since and
// its agent is active. The gateway and all services use it, except auth, which reads sessions from its database. It knows ended
// sessions from a topic of auth and, while that cannot be read, from auth itself. It never waits: while the keys or the
// ended sessions are unknown or out of date, it fails immediately.
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
	authTimeout = 5 * time.Second
	// Ended sessions are stored for the lifetime of a token plus margin, because clocks differ and events are published with a
	// delay.
	margin = 10 * time.Minute
)

// Feed is the topic on which auth publishes ended sessions and changed agents.
type Feed struct {
	Topic string
	// Watch subscribes to the topic. It must call sessionEnded for each session that ends, and agentChanged for each change of an
	// agent.
	Watch func(w *bus.Watcher, sessionEnded func(sessionID string), agentChanged func(agentID string, version int64, active bool))
}

// Access verifies callers. It is safe for concurrent use.
type Access struct {
	keys     *token.Remote
	cache    *Cache
	watcher  *bus.Watcher
	ended    *ended
	fallback *fallback
}

// New returns an Access. It fetches nothing before the group that it joins runs.
func New(cfg Config, feed Feed, kafka *bus.Kafka, c clock.Clock, tel telemetry.Set) *Access {
	origin, client := strings.TrimSuffix(cfg.AuthURL, "/"), &http.Client{Timeout: authTimeout}
	keys := token.Fetch(origin+"/.well-known/jwks.json", client, c, tel)
	a := &Access{
		keys:    keys,
		cache:   NewCache(token.NewVerifier(keys.Key, c).Authenticate, c),
		watcher: bus.NewWatcher(kafka, feed.Topic, cfg.tokenTTL()+margin, c, tel),
		ended:   newEnded(cfg.tokenTTL()+margin, c),
	}
	a.fallback = &fallback{
		url: origin + RevocationsPath, client: client, keys: keys.Key, stale: a.watcher.Stale, ended: a.ended, stopwatch: clock.Stopwatch, tel: tel,
	}
	feed.Watch(a.watcher, a.ended.onSessionEnded, a.ended.onAgentChanged)
	return a
}

// Join adds the actors that fetch keys and ended sessions to the group.
func (a *Access) Join(g *run.Group) {
	g.Add("keys", a.keys)
	g.Add("ended sessions", a.watcher)
	g.Add("ended sessions at auth", a.fallback)
}

// Authenticate returns the caller of a request. It fails with an Unauthenticated fault if the token is missing or invalid or its
// session has ended, and with an Unavailable fault while tokens cannot be verified (see Ready).
func (a *Access) Authenticate(r *http.Request) (identity.Caller, error) {
	caller, err := a.cache.Authenticate(r)
	if err != nil {
		return identity.Caller{}, err
	}
	return caller, a.admit(caller)
}

// admit fails if the session of a verified caller has ended. It runs for every request, also when the token is cached.
func (a *Access) admit(c identity.Caller) error {
	if err := a.known(); err != nil {
		return fault.Wrap(err, fault.Unavailable, "auth_unavailable", "Tokens cannot be checked right now, try again").After(2 * time.Second)
	}
	if a.ended.has(c) {
		return fault.New(fault.Unauthenticated, "session_ended", "This session has ended: log in again")
	}
	return nil
}

// errUnknown means that the process does not know which sessions have ended in the last minute.
var errUnknown = errors.New("the ended sessions can be read neither from Kafka nor from auth")

// known is the rule for all outages: a process may use what it knows about ended sessions, from the topic or from auth, for maxAge.
// A process that has just started knows nothing.
func (a *Access) known() error {
	if a.fallback.age() > maxAge {
		return errUnknown
	}
	return nil
}

// Ready fails while tokens cannot be verified: without the keys of auth, or without knowing the ended sessions.
func (a *Access) Ready(ctx context.Context) error {
	return errors.Join(a.keys.Ready(ctx), a.known())
}
