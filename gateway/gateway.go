// Package gateway is the API gateway of Convoflow: every request of an app passes through it. It refuses requests that are
// not allowed, proxies the others to the services, and publishes the OpenAPI document. It has no database and no business
// logic, and the services verify every token again.
package gateway

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/gateway/internal/guard"
	"github.com/convoflow/convoflow/gateway/internal/proxy"
	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// New wires the gateway. It listens at once and serves when it runs.
func New(_ context.Context, cfg Config, tel telemetry.Set) (_ *run.App, err error) {
	if err := conf.Check(cfg); err != nil {
		return nil, err
	}
	g := run.NewGroup(tel)
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	c := clock.System{}
	recorder, err := record.New(c, tel)
	if err != nil {
		return nil, err
	}
	kafka, err := bus.Connect(cfg.Kafka, "gateway", events.Topics())
	if err != nil {
		return nil, err
	}
	g.Defer("kafka", kafka.Close)
	callers := access.New(cfg.Access, api.Sessions(), kafka, c, tel)
	upstreams, err := connect(cfg, g, tel)
	if err != nil {
		return nil, err
	}
	contract, err := api.Merged(tel.Version)
	if err != nil {
		return nil, err
	}
	own := pages{contract: contract, ready: readiness(upstreams, callers), clock: c, tel: tel}
	router, err := newRouter(cfg, callers.Authenticate, upstreams, own)
	if err != nil {
		return nil, err
	}
	edge := guard.Edge{Proxies: prefixes(cfg.TrustedProxies), Hosts: trimmed(cfg.AllowedHosts), Origins: trimmed(cfg.AllowedOrigins)}
	listener, err := cfg.HTTP.Listen()
	if err != nil {
		return nil, err
	}
	listener, handler := cfg.linger().Wrap(listener, guard.Deadlines(cfg.Clients.pace(), recorder.Handler(edge.Handler(router))))
	public := cfg.HTTP
	public.Listener, public.Prepare = guard.Listener(listener), guard.Prepare
	server, err := run.HTTP(public, guard.Serving(handler))
	if err != nil {
		return nil, err
	}
	g.Defer("http", server.Close)
	admin, err := run.Admin(cfg.Admin, tel, callers.Ready, cfg)
	if err != nil {
		return nil, err
	}
	g.Defer("admin", admin.Close)

	// The order is that of service.Base.App.
	g.Add("admin", admin)
	callers.Join(g)
	g.Add("http", server)
	// Unlike GET /ready, it does not check the services: the gateway must remain reachable while one is down.
	return run.NewApp(g, server, callers.Ready), nil
}

// connect returns the upstream of each service.
func connect(cfg Config, g *run.Group, tel telemetry.Set) (map[string]*proxy.Upstream, error) {
	bodies := rpc.NewBudget(cfg.HTTP.BodyMemory())
	metrics, err := proxy.NewMetrics(tel.Metrics, bodies)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of the services: %w", err)
	}
	options := proxy.Options{
		Forwarded: guard.Forwarded(), H2C: cfg.Upstreams.Protocol == h2c, Bodies: bodies,
		MaxRequests: cfg.Upstreams.MaxRequests, MaxUploads: cfg.Upstreams.MaxUploads, MaxStreams: cfg.Upstreams.MaxStreams,
	}
	upstreams := map[string]*proxy.Upstream{}
	for service, address := range map[string]string{"auth": cfg.Access.AuthURL, "calls": cfg.CallsURL, "crm": cfg.CRMURL, "notify": cfg.NotifyURL} {
		upstream, err := proxy.New(service, address, options, metrics, tel)
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", service, err)
		}
		upstreams[service] = upstream
		g.Defer("connections to "+service, upstream.Close)
	}
	return upstreams, nil
}

func readiness(upstreams map[string]*proxy.Upstream, callers *access.Access) map[string]run.Ready {
	ready := map[string]run.Ready{"gateway": callers.Ready}
	for service, upstream := range upstreams {
		ready[service] = upstream.Ready
	}
	return ready
}

// prefixes parses the CIDRs of a setting that has been checked.
func prefixes(cidrs []string) (out []netip.Prefix) {
	for _, cidr := range trimmed(cidrs) {
		if prefix, err := netip.ParsePrefix(cidr); err == nil {
			out = append(out, prefix)
		}
	}
	return out
}
