package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzhttp"

	"github.com/convoflow/convoflow/gateway/internal/guard"
	"github.com/convoflow/convoflow/gateway/internal/page"
	"github.com/convoflow/convoflow/gateway/internal/proxy"
	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const compressFrom = 1 << 10 // bytes of JSON

// newRates makes the rate limits of each class.
func newRates(r Rates, tel telemetry.Set) (map[class]*guard.Rate, error) {
	limited := guard.NewLimited()
	if err := tel.Metrics.Register(limited); err != nil {
		return nil, fmt.Errorf("register the metric of rate limits: %w", err)
	}
	rates := map[class]*guard.Rate{login: guard.NewRate(string(login), 0, r.Login, limited, clock.System{})}
	for c, perAgent := range map[class]int{upload: r.Upload, read: r.Read, write: r.Write, analytics: r.Analytics} {
		rates[c] = guard.NewRate(string(c), perAgent, perAgent*r.AddressFactor, limited, clock.System{})
	}
	return rates, nil
}

// compare returns the differences between the routes and the OpenAPI document: the gateway does not start with any.
func compare(table []route, contract []byte) error {
	var doc struct {
		Paths map[string]map[string]struct {
			ID     string     `json:"operationId"`
			Access rpc.Access `json:"x-access"`
		}
	}
	if err := json.Unmarshal(contract, &doc); err != nil {
		return fmt.Errorf("read the contract: %w", err)
	}
	var problems []error
	rows := map[string]string{}
	for _, rt := range table {
		if _, twice := rows[rt.op]; twice {
			problems = append(problems, fmt.Errorf("operation %s has two rows in routes.go", rt.op))
		}
		rows[rt.op] = fmt.Sprintf("%s for %s", rt.pattern, rt.access)
	}
	for path, item := range doc.Paths {
		for method, op := range item {
			if documented := fmt.Sprintf("%s %s for %s", strings.ToUpper(method), path, op.Access); rows[op.ID] != documented {
				problems = append(problems, fmt.Errorf("operation %s is %q in the contract and %q in routes.go", op.ID, documented, rows[op.ID]))
			}
			delete(rows, op.ID)
		}
	}
	for op := range rows {
		problems = append(problems, fmt.Errorf("operation %s is in routes.go and not in the contract", op))
	}
	return errors.Join(problems...)
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
	tel      telemetry.Set
}

// newRouter makes the handler of all routes.
func newRouter(cfg Config, tokens *guard.Tokens, upstreams map[string]*proxy.Upstream, p pages) (http.Handler, error) {
	table := routes(int64(cfg.MaxAudioSizeMB) << 20)
	if err := compare(table, p.contract); err != nil {
		return nil, err
	}
	rates, err := newRates(cfg.Rates, p.tel)
	if err != nil {
		return nil, err
	}
	compress, err := gzhttp.NewWrapper(gzhttp.MinSize(compressFrom), gzhttp.ContentTypes([]string{"application/json"}))
	if err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	docs, assets := page.Docs("/docs", "/openapi.json")
	own := map[string]http.Handler{
		"gateway.health":  page.Health(p.tel.Version),
		"gateway.ready":   page.Ready(p.ready, p.tel),
		"gateway.openapi": page.Contract(p.contract),
		"gateway.docs":    docs,
	}
	streams := guard.NewStreams()
	mux := rpc.NewMux()
	for _, rt := range table {
		// The gateway's own pages are mostly requested by probes, so they are logged at debug level.
		name, level, handler := rt.op, slog.LevelDebug, own[rt.op]
		if handler == nil {
			name, level, handler = "gateway."+rt.op, slog.LevelInfo, upstreams[rt.service].Buffered(rt.timeout)
			if rt.timeout == streamed {
				handler = upstreams[rt.service].Stream()
			}
		}
		if rt.timeout != streamed {
			handler = compressed(handler, compress(handler))
		}
		limits := rates[rt.class]
		handler = guard.Limit(rt.body, handler)
		switch rt.access {
		case rpc.Anyone:
		case rpc.Signed:
			handler = guard.Signed(handler)
		default:
			admitted := handler
			forCaller := func(w http.ResponseWriter, r *http.Request, _ identity.Caller) { admitted.ServeHTTP(w, r) }
			if rt.timeout == streamed {
				forCaller = streams.PerAgent(forCaller)
			}
			handler = tokens.Require(rt.access, limits.PerAgent(forCaller))
		}
		mux.Handle(rt.pattern, record.Name(name, level, limits.PerAddress(handler)))
	}
	mux.Handle("GET /docs/{file}", record.Name("gateway.docs", slog.LevelDebug, rates[read].PerAddress(assets)))
	for prefix, handler := range cfg.Mount {
		named := record.Name("gateway."+strings.Trim(prefix, "/"), slog.LevelInfo, rates[read].PerAddress(guard.Limit(small, handler)))
		mux.Handle(prefix, named)
		mux.Handle(prefix+"/", named)
	}
	return mux, nil
}
