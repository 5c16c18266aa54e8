package gateway

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzhttp"

	"github.com/convoflow/convoflow/gateway/internal/guard"
	"github.com/convoflow/convoflow/gateway/internal/page"
	"github.com/convoflow/convoflow/gateway/internal/proxy"
	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const compressFrom = 1 << 10 // bytes of JSON

// pages is what the gateway's own operations need.
type pages struct {
	contract []byte
	ready    map[string]run.Ready
	tel      telemetry.Set
}

// newRouter puts the table of routes into effect.
func newRouter(cfg Config, tokens *guard.Tokens, upstreams map[string]*proxy.Upstream, p pages) (http.Handler, error) {
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
	mux := http.NewServeMux()
	for _, rt := range routes(int64(cfg.MaxAudioSizeMB) << 20) {
		// The gateway's own pages are asked for by machines all the time.
		name, level, handler := rt.op, slog.LevelDebug, own[rt.op]
		if handler == nil {
			name, level, handler = "gateway."+rt.op, slog.LevelInfo, upstreams[rt.service].Handler(rt.timeout == streamed)
		}
		if rt.timeout != streamed {
			handler = compress(handler)
		}
		handler = tokens.Require(rt.access, guard.Limit(rt.body, rt.timeout, handler))
		mux.Handle(rt.pattern, record.Name(name, level, handler))
	}
	mux.Handle("GET /docs/{file}", record.Name("gateway.docs", slog.LevelDebug, assets))
	for prefix, handler := range cfg.Mount {
		named := record.Name("gateway."+strings.Trim(prefix, "/"), slog.LevelInfo, guard.Limit(small, streamed, handler))
		mux.Handle(prefix, named)
		mux.Handle(prefix+"/", named)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { rpc.Dispatch(mux, w, r) }), nil
}
