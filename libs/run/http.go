package run

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// HTTPConfig says where and how an HTTP server listens.
type HTTPConfig struct {
	Addr     string       `env:"HTTP_ADDR"` // host:port
	Listener net.Listener `env:"-"`         // used instead of Addr if not nil
	H2C      bool         `env:"-"`         // also accept HTTP/2 without TLS, which the gateway uses
	// BodyMemoryMB limits the memory of all request bodies that are read into memory, together, in units of 2^20 bytes.
	BodyMemoryMB int `env:"HTTP_BODY_MEMORY_MB"`
	// Drain is how long requests may go on when the process stops; then their connections are closed.
	Drain time.Duration `env:"HTTP_DRAIN_TIME"`
	// MaxConnAge is the age from which a connection is closed after its next response, so that clients connect to other replicas too,
	// such as new ones; 0 is no limit. It varies by a tenth.
	MaxConnAge time.Duration `env:"HTTP_MAX_CONNECTION_AGE"`
	// Prepare may change the server before it serves. It may be nil.
	Prepare func(*http.Server) `env:"-"`
}

// DefaultHTTP returns the configuration of a server at addr. It drains within the 10 s that Compose and others give a process.
func DefaultHTTP(addr string) HTTPConfig {
	return HTTPConfig{Addr: addr, BodyMemoryMB: 64, Drain: defaultDrain, MaxConnAge: 5 * time.Minute}
}

const (
	defaultDrain = 8 * time.Second
	maxDrain     = time.Hour
)

// Check lists the problems with the configuration.
func (c HTTPConfig) Check() (problems []string) {
	if c.BodyMemoryMB < 1 || c.BodyMemoryMB > 1<<20 {
		problems = append(problems, "HTTP_BODY_MEMORY_MB must be 1 to 1048576")
	}
	if c.Drain < time.Second || c.Drain > maxDrain {
		problems = append(problems, "HTTP_DRAIN_TIME must be 1s to 1h, and shorter than the time that the process has to stop")
	}
	if c.MaxConnAge < 0 || c.MaxConnAge > 0 && c.MaxConnAge < time.Second {
		problems = append(problems, "HTTP_MAX_CONNECTION_AGE must be 1s or more, or 0 for no limit")
	}
	return problems
}

// BodyMemory returns BodyMemoryMB in bytes.
func (c HTTPConfig) BodyMemory() int64 { return int64(c.BodyMemoryMB) << 20 }

// Listen listens on Addr, or returns Listener if that is set.
func (c HTTPConfig) Listen() (net.Listener, error) {
	if c.Listener != nil {
		return c.Listener, nil
	}
	l, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", c.Addr, err)
	}
	return l, nil
}

// AdminConfig says where metrics, health and profiles are served. The gateway does not forward to this address.
type AdminConfig struct {
	Addr     string       `env:"ADMIN_ADDR"` // host:port
	Listener net.Listener `env:"-"`
}

const maxHeader = 32 << 10 // bytes

// Server is an HTTP server that implements Actor. It listens from its creation on, so that a port in use is a startup error.
type Server struct {
	listener net.Listener
	server   *http.Server
	drain    time.Duration
	active   atomic.Int64 // when a request began or ended, in Unix nanoseconds
}

// HTTP returns a server for handler. Headers must arrive within 10 s. Bodies and responses have no timeout here, because uploading
// a recording over a slow mobile connection takes long.
func HTTP(cfg HTTPConfig, handler http.Handler) (*Server, error) {
	l, err := cfg.Listen()
	if err != nil {
		return nil, err
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(cfg.H2C)
	server := &http.Server{
		Handler:   handler,
		Protocols: protocols,
		// Otherwise net/http itself would respond to OPTIONS *.
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            10 * time.Second,
		IdleTimeout:                  2 * time.Minute,
		MaxHeaderBytes:               maxHeader,
	}
	if cfg.H2C {
		server.MaxHeaderBytes = 2 * maxHeader // headers that the gateway accepts, plus those that it adds
	}
	if cfg.Prepare != nil {
		cfg.Prepare(server)
	}
	s := &Server{listener: l, server: server, drain: cmp.Or(cfg.Drain, defaultDrain)}
	s.endConnections(cfg.MaxConnAge)
	return s, nil
}

// Addr returns the server's address, host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close closes the listener of a server that was never run.
func (s *Server) Close() { _ = s.listener.Close() }

type drainingKey struct{}

// Draining returns a context that ends when the server of a request stops, for a response that would otherwise never end. Outside of
// a request it never ends.
func Draining(ctx context.Context) context.Context {
	if draining, ok := ctx.Value(drainingKey{}).(context.Context); ok {
		return draining
	}
	return context.WithoutCancel(ctx)
}

// StopTimeout is how long the server may take to stop.
func (s *Server) StopTimeout() time.Duration { return s.drain + StopTimeout - defaultDrain }

// Run serves until ctx ends. Then requests have HTTPConfig.Drain to finish, after which their connections are closed.
func (s *Server) Run(ctx context.Context) error {
	s.server.BaseContext = func(net.Listener) context.Context {
		return context.WithValue(context.WithoutCancel(ctx), drainingKey{}, ctx)
	}
	failed := make(chan error, 1)
	go func() { failed <- s.server.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
	defer cancel()
	s.leave(min(maxLeave, s.drain/2))
	if err := s.server.Shutdown(drain); err != nil {
		_ = s.server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Ready returns nil if a process can serve requests, or Warnings. Another error says what is missing, without personal data.
type Ready func(ctx context.Context) error

// Warnings is what an operator should do about a process that can serve requests.
type Warnings []string

// Error returns the warnings.
func (w Warnings) Error() string { return strings.Join(w, "; ") }

// Health serves /health (liveness) and /ready (readiness). Liveness does not depend on any other system.
func Health(tel telemetry.Set, ready Ready) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, fmt.Sprintf(`{"status":"ok","service":%q,"version":%q}`, tel.Service, tel.Version))
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		var warnings Warnings
		if err := ready(ctx); errors.As(err, &warnings) {
			list, _ := json.Marshal(warnings) // a list of texts always can be
			answer(w, http.StatusOK, fmt.Sprintf(`{"status":"ready","service":%q,"warnings":%s}`, tel.Service, list))
			return
		} else if err != nil {
			tel.Log.WarnContext(ctx, "not ready", "error", err)
			answer(w, http.StatusServiceUnavailable, fmt.Sprintf(`{"status":"unavailable","service":%q}`, tel.Service))
			return
		}
		answer(w, http.StatusOK, fmt.Sprintf(`{"status":"ready","service":%q}`, tel.Service))
	})
	return mux
}

// Admin returns the server for health, readiness, metrics, profiles and the effective settings, with secrets redacted.
func Admin(cfg AdminConfig, tel telemetry.Set, ready Ready, settings any) (*Server, error) {
	mux := http.NewServeMux()
	mux.Handle("/", Health(tel, ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(tel.Metrics, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, conf.Usage(settings))
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	return HTTP(HTTPConfig{Addr: cfg.Addr, Listener: cfg.Listener}, mux)
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body + "\n"))
}

// WithHealth serves /health and /ready in addition to the API. The gateway requests them there.
func WithHealth(tel telemetry.Set, ready Ready, api http.Handler) http.Handler {
	health := Health(tel, ready)
	// Not a ServeMux, which would redirect paths such as //clients before the API can refuse them.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" || r.URL.Path == "/ready" {
			health.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}
