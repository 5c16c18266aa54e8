package gateway

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/gzhttp"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/gateway/internal/guard"
	"github.com/convoflow/convoflow/gateway/internal/page"
	"github.com/convoflow/convoflow/gateway/internal/proxy"
	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/openapi"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const (
	compressFrom   = 1 << 10 // bytes of JSON
	sessionTimeout = 25 * time.Second
)

// newRates returns the rate limits of each class.
func newRates(r Rates, c clock.Clock, tel telemetry.Set) (map[openapi.Class]*guard.Rate, error) {
	limited := guard.NewLimited()
	if err := tel.Metrics.Register(limited); err != nil {
		return nil, fmt.Errorf("register the metric of rate limits: %w", err)
	}
	rates := map[openapi.Class]*guard.Rate{}
	for class, perAddress := range map[openapi.Class]int{openapi.Login: r.Login, openapi.Inbound: r.Inbound} {
		rates[class] = guard.NewRate(string(class), 0, perAddress, limited, c)
	}
	perClass := map[openapi.Class]int{openapi.Upload: r.Upload, openapi.Read: r.Read, openapi.Write: r.Write, openapi.Analytics: r.Analytics}
	for class, perAgent := range perClass {
		rates[class] = guard.NewRate(string(class), perAgent, perAgent*r.AddressFactor, limited, c)
	}
	return rates, nil
}

// compressed serves clients that accept gzip with zipped and others with plain.
func compressed(plain, zipped http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			zipped.ServeHTTP(w, r)
			return
		}
		w.Header().Add("Vary", "Accept-Encoding")
		plain.ServeHTTP(w, r)
	})
}

// pages has the dependencies of the gateway's own operations.
type pages struct {
	contract []byte
	ready    map[string]run.Ready
	clock    clock.Clock
	tel      telemetry.Set
}

// byLink passes requests with the token of a link without a caller. Each path counts as one, so that its streams are limited too.
func byLink(o openapi.Operation, linked guard.CallerHandler, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rpc.HasLink(o, r) {
			linked(w, r, identity.Caller{AgentID: r.URL.Path})
			return
		}
		others.ServeHTTP(w, r)
	})
}

// newRouter returns the handler of all routes.
func newRouter(cfg Config, authenticate rpc.Authenticator, upstreams map[string]*proxy.Upstream, p pages) (http.Handler, error) {
	table, err := routes(p.contract, map[string]int64{api.RecordingLimit: int64(cfg.MaxAudioSizeMB) << 20})
	if err != nil {
		return nil, fmt.Errorf("read the routes from the contract: %w", err)
	}
	rates, err := newRates(cfg.Rates, p.clock, p.tel)
	if err != nil {
		return nil, err
	}
	compress, err := gzhttp.NewWrapper(gzhttp.MinSize(compressFrom), gzhttp.ContentTypes([]string{"application/json"}))
	if err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	docs, assets := page.Docs("/docs", "/openapi.json")
	console, err := page.Console(cfg.ConsoleDir)
	if err != nil {
		return nil, err
	}
	session := page.Session{Auth: upstreams["auth"].Buffered(sessionTimeout), Demo: cfg.Demo}
	own := map[string]http.Handler{
		"gateway.health":  page.Health(p.tel.Version),
		"gateway.ready":   page.Ready(p.ready, p.tel),
		"gateway.openapi": page.Contract(p.contract),
		"gateway.docs":    docs,
		"gateway.session": session.Show(),
		"gateway.login":   guard.SameOrigin(session.Login(operationOf(table, "gateway.login"))),
		"gateway.renew":   guard.SameOrigin(session.Renew()),
		"gateway.logout":  guard.SameOrigin(session.Logout()),
	}
	uploads, downloads := guard.NewStreams(cfg.Rates.AddressFactor), guard.NewStreams(cfg.Rates.AddressFactor)
	mux := rpc.NewMux()
	for _, rt := range table {
		// The gateway's own pages are mostly requested by probes, so they are logged at debug level.
		name, level, handler := rt.ID, slog.LevelDebug, own[rt.ID]
		if upstream := upstreams[rt.service]; handler == nil {
			name, level = "gateway."+rt.ID, slog.LevelInfo
			switch {
			case upstream == nil:
				return nil, fmt.Errorf("operation %s: the gateway knows no service %q", rt.ID, rt.service)
			case rt.isUpload():
				handler = upstream.Upload()
			case rt.timeout == openapi.Streamed:
				handler = upstream.Download()
			default:
				handler = upstream.Buffered(rt.timeout)
			}
		}
		if rt.timeout != openapi.Streamed {
			handler = compressed(handler, compress(handler))
		}
		limits := rates[rt.Class]
		handler = guard.Limit(rt.body, handler)
		switch rt.Access {
		case openapi.Anyone:
		case openapi.Signed:
			handler = guard.Signed(handler)
		default:
			admitted := handler
			forCaller := func(w http.ResponseWriter, r *http.Request, _ identity.Caller) { admitted.ServeHTTP(w, r) }
			switch {
			case rt.isUpload():
				forCaller = uploads.PerCaller(forCaller)
			case rt.timeout == openapi.Streamed:
				forCaller = downloads.PerCaller(forCaller)
			}
			handler = guard.Require(authenticate, rt.Access, limits.PerAgent(forCaller))
			if rt.Access == openapi.Link {
				handler = byLink(rt.Operation, forCaller, handler)
			}
		}
		mux.Handle(rt.Pattern(), record.Name(name, level, limits.PerAddress(handler)))
	}
	mux.Handle("GET /docs/{file}", record.Name("gateway.docs", slog.LevelDebug, rates[openapi.Read].PerAddress(assets)))
	for pattern, handler := range map[string]http.Handler{"GET /console": console, "GET /console/{path...}": console, "GET /{$}": http.HandlerFunc(page.Home)} {
		mux.Handle(pattern, record.Name("gateway.console", slog.LevelDebug, rates[openapi.Read].PerAddress(handler)))
	}
	for prefix, handler := range cfg.Mount {
		if hasPath(table, prefix) {
			return nil, fmt.Errorf("the mounted prefix %q is a path of the API", prefix)
		}
		named := record.Name("gateway."+strings.Trim(prefix, "/"), slog.LevelInfo, rates[openapi.Read].PerAddress(guard.Limit(openapi.DefaultBody, guard.WithoutForwarded(handler))))
		mux.Handle(prefix, named)
		mux.Handle(prefix+"/", named)
	}
	return mux, nil
}

// operationOf returns the operation with that id, which the contract has.
func operationOf(table []route, id string) openapi.Operation {
	for _, rt := range table {
		if rt.ID == id {
			return rt.Operation
		}
	}
	return openapi.Operation{}
}
