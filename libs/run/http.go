package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// HTTPConfig is where a server listens.
type HTTPConfig struct {
	Addr     string       `env:"HTTP_ADDR"` // host:port
	Listener net.Listener `env:"-"`         // instead of Addr, for a process that chose the port before
	H2C      bool         `env:"-"`         // also HTTP/2 without TLS, for the gateway in front
	// Prepare may change the server before it serves.
	Prepare func(*http.Server) `env:"-"`
}

// Listen opens the port, or returns the listener that is there.
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

// AdminConfig is where metrics, health and profiles are served. It is never reachable through the gateway.
type AdminConfig struct {
	Addr     string       `env:"ADMIN_ADDR"` // host:port
	Listener net.Listener `env:"-"`
}

const maxHeader = 32 << 10 // bytes

// Server is an HTTP server as an actor. It listens from the moment it is made, so that a port in use is a start-up error.
type Server struct {
	listener net.Listener
	server   *http.Server
}

// HTTP makes a server for handler. Bodies and answers may take long (a recording over a phone line); headers may not.
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
		// OPTIONS * would be answered before any handler of ours.
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            10 * time.Second,
		IdleTimeout:                  2 * time.Minute,
		MaxHeaderBytes:               maxHeader,
	}
	if cfg.H2C {
		server.MaxHeaderBytes = 2 * maxHeader // what the gateway lets through must arrive, with what it adds
	}
	if cfg.Prepare != nil {
		cfg.Prepare(server)
	}
	return &Server{listener: l, server: server}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close stops listening, for a server that never ran.
func (s *Server) Close() { _ = s.listener.Close() }

// Run serves until ctx ends, then lets requests finish for most of StopTimeout and cuts the rest.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.server.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopTimeout-2*time.Second)
	defer cancel()
	if err := s.server.Shutdown(drain); err != nil {
		_ = s.server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Ready says whether a process can do its work now; the error says what is missing, without personal data.
type Ready func(ctx context.Context) error

// Health serves /health (the process is alive) and /ready (it can do its work). Liveness never asks a dependency.
func Health(tel telemetry.Set, ready Ready) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, fmt.Sprintf(`{"status":"ok","service":%q,"version":%q}`, tel.Service, tel.Version))
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := ready(ctx); err != nil {
			tel.Log.WarnContext(ctx, "not ready", "error", err)
			answer(w, http.StatusServiceUnavailable, fmt.Sprintf(`{"status":"unavailable","service":%q}`, tel.Service))
			return
		}
		answer(w, http.StatusOK, fmt.Sprintf(`{"status":"ready","service":%q}`, tel.Service))
	})
	return mux
}

// Admin serves health, readiness, metrics, profiles and the settings in effect, of which secrets do not show themselves.
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

// WithHealth puts /health and /ready beside a service's API, where the gateway asks for them.
func WithHealth(tel telemetry.Set, ready Ready, api http.Handler) http.Handler {
	health := Health(tel, ready)
	// No mux: it would redirect paths such as //clients before the API can refuse them.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" || r.URL.Path == "/ready" {
			health.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
}
