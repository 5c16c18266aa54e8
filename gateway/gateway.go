// Package gateway is the front door of Convoflow: every request of an app comes in here. It keeps out who may not call,
// passes the rest on to the services, and publishes the contract. It refuses to know any business: it has no database, and
// the services verify every token again.
package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/gateway/internal/guard"
	"github.com/convoflow/convoflow/gateway/internal/proxy"
	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const keysTimeout = 5 * time.Second

// App is the gateway, ready to run.
type App struct {
	group *run.Group
	http  *run.Server
	keys  *token.Remote
}

// Run serves until ctx ends. Call it once.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr is where the API listens.
func (a *App) Addr() string { return a.http.Addr() }

// Ready fails while the gateway cannot verify tokens. It says nothing about the services: GET /ready does, and a gateway
// must stay reachable while one of them is down.
func (a *App) Ready(ctx context.Context) error { return a.keys.Ready(ctx) }

// New wires the gateway. It listens from now on, and serves when it runs.
func New(_ context.Context, cfg Config, tel telemetry.Set) (_ *App, err error) {
	if problems := cfg.Check(); len(problems) > 0 {
		return nil, &conf.Error{Problems: problems}
	}
	g := run.NewGroup(tel)
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	recorder, err := record.New(tel)
	if err != nil {
		return nil, err
	}
	keys := token.Fetch(strings.TrimRight(cfg.AuthURL, "/")+"/.well-known/jwks.json", &http.Client{Timeout: keysTimeout}, tel)
	tokens := guard.NewTokens(token.NewVerifier(keys.Key, clock.System{}).Authenticate, clock.System{})
	upstreams, err := connect(cfg, g, tel)
	if err != nil {
		return nil, err
	}
	contract, err := api.Merged(tel.Version)
	if err != nil {
		return nil, err
	}
	router, err := newRouter(cfg, tokens, upstreams, pages{contract: contract, ready: readiness(upstreams, keys), tel: tel})
	if err != nil {
		return nil, err
	}
	door := guard.Door{Proxies: prefixes(cfg.TrustedProxies), Hosts: trimmed(cfg.AllowedHosts), Origins: trimmed(cfg.AllowedOrigins)}
	server, err := run.HTTP(cfg.HTTP, guard.Cut(guard.Patience, recorder.Handler(door.Handler(router))))
	if err != nil {
		return nil, err
	}
	g.Defer("api", server.Close)
	admin, err := run.Admin(cfg.Admin, tel, keys.Ready)
	if err != nil {
		return nil, err
	}
	g.Defer("admin", admin.Close)

	g.Add("keys", keys)
	g.Add("admin", admin)
	g.Add("api", server)
	return &App{group: g, http: server, keys: keys}, nil
}

// connect makes the upstream of each service.
func connect(cfg Config, g *run.Group, tel telemetry.Set) (map[string]*proxy.Upstream, error) {
	upstreams := map[string]*proxy.Upstream{}
	for service, address := range map[string]string{"auth": cfg.AuthURL, "calls": cfg.CallsURL, "crm": cfg.CRMURL, "notify": cfg.NotifyURL} {
		upstream, err := proxy.New(address, guard.Forwarded(), tel)
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", service, err)
		}
		upstreams[service] = upstream
		g.Defer("connections to "+service, upstream.Close)
	}
	return upstreams, nil
}

func readiness(upstreams map[string]*proxy.Upstream, keys *token.Remote) map[string]run.Ready {
	ready := map[string]run.Ready{"gateway": keys.Ready}
	for service, upstream := range upstreams {
		ready[service] = upstream.Ready
	}
	return ready
}

// prefixes are the networks of a checked setting.
func prefixes(cidrs []string) (out []netip.Prefix) {
	for _, cidr := range trimmed(cidrs) {
		if prefix, err := netip.ParsePrefix(cidr); err == nil {
			out = append(out, prefix)
		}
	}
	return out
}
