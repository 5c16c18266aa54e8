// Package auth is the service that owns agents, their logins and the keys that access tokens are signed with. It reads
// only requests to erase personal data, and calls no other service.
package auth

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/convoflow/convoflow/api/contract"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/seal"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/email"
	"github.com/convoflow/convoflow/services/auth/internal/feed"
	"github.com/convoflow/convoflow/services/auth/internal/key"
	"github.com/convoflow/convoflow/services/auth/internal/password"
	"github.com/convoflow/convoflow/services/auth/internal/store"
	"github.com/convoflow/convoflow/services/auth/internal/web"
)

const (
	// failedLogin is longer than a bcrypt hash of the former system takes (cost 12: 0.2 s), so that a wrong password for such an
	// account takes as long as one for an account that does not exist.
	failedLogin = 400 * time.Millisecond
	// admitTimeout limits reading the session before each request. The database's own timeout ends waiting for a lock earlier.
	admitTimeout = 10 * time.Second
	sweepEvery   = 10 * time.Minute
)

// Contract returns the API, the topics and the tables of the service.
func Contract() service.Contract { return contract.Of("auth", store.Migrations()) }

// New connects to the database, migrates it, opens the signing keys and listens. Nothing is served before Run. It fails if
// SECRET_KEY does not open the keys in the database. Every time is that of the database's clock: replicas agree on when a session
// or a delay ends, and sign tokens that everybody accepts.
func New(ctx context.Context, cfg Config, tel telemetry.Set) (_ *service.App, err error) {
	base, err := service.Open(ctx, Contract(), cfg, tel)
	if err != nil {
		return nil, err
	}
	defer base.CloseIf(&err)
	keys, err := key.Load(ctx, store.Keys(base.DB), cfg.keys(), base.DBClock)
	if err != nil {
		return nil, err
	}
	if err := registerMetric(keys, tel); err != nil {
		return nil, err
	}
	agents, err := newAgents(cfg, base, keys)
	if err != nil {
		return nil, err
	}

	base.Authenticate = authenticator(agents, keys, base.DBClock)
	base.Wrap = web.WithDevice
	feed.Routes(base.Consumer, agents)
	web.Routes(base.Router, agents, keys)
	base.Run("keys", run.Every(key.RefreshEvery, tel, "refresh the signing keys", keys.Refresh))
	base.Run("sweep", run.Every(sweepEvery, tel, "delete old sessions and failed logins", func(ctx context.Context) error {
		return store.Sweep(ctx, base.DB, base.Outbox, base.DBClock.Now(), cfg.tokenTTL())
	}))
	return base.App()
}

// registerMetric registers the metric of the signing key.
func registerMetric(keys *key.Ring, tel telemetry.Set) error {
	err := tel.Metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "convoflow_auth_signing_key_remaining_seconds", Help: "Time until the signing key is due to be replaced by the next one, which happens by itself. Negative if it does not.",
	}, func() float64 { return keys.Remaining().Seconds() }))
	if err != nil {
		return fmt.Errorf("register the metric of the signing key: %w", err)
	}
	return nil
}

func newAgents(cfg Config, base *service.Base, tokens agent.Tokens) (*agent.Service, error) {
	attemptSecret, err := seal.DeriveKey(cfg.SecretKey.Reveal(), "convoflow auth failed logins v1")
	if err != nil {
		return nil, err
	}
	return &agent.Service{
		Agents:               store.Agents(base.DB, base.Outbox),
		Sessions:             store.Sessions(base.DB, base.Outbox),
		Revocations:          store.Revocations(base.DB),
		Erasures:             store.Erasures(base.DB, base.Outbox),
		Attempts:             store.Attempts(base.DB),
		Registrations:        store.Registrations(base.DB),
		Passwords:            password.NewHasher(runtime.GOMAXPROCS(0)),
		Tokens:               tokens,
		Tx:                   base.DB,
		Clock:                base.DBClock,
		NormalizeEmail:       email.Normalize,
		RegistrationsPerHour: cfg.RegistrationsPerHour,
		Open:                 cfg.Registration == registrationOpen,
		TokenTTL:             cfg.tokenTTL(),
		AttemptSecret:        attemptSecret,
		FailedLogin:          failedLogin,
	}, nil
}

// authenticator verifies the signature of a token once, and reads its session from the database for each request: auth refuses
// a session as soon as it has ended, for every operation and before the body is read.
func authenticator(agents *agent.Service, keys *key.Ring, c clock.Clock) rpc.Authenticator {
	verified := access.NewCache(token.NewVerifier(keys.Public, c).Authenticate, c)
	return func(r *http.Request) (identity.Caller, error) {
		caller, err := verified.Authenticate(r)
		if err != nil {
			return identity.Caller{}, err
		}
		ctx, cancel := context.WithTimeout(r.Context(), admitTimeout)
		defer cancel()
		caller, err = agents.Admit(ctx, caller)
		return caller, pg.Classify(err)
	}
}
