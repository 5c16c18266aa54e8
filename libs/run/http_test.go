package run_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func serve(t *testing.T, s *run.Server) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(cancel)
	return func() error { cancel(); return <-ended }
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

func TestAStopWaitsForRequestsInProgress(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	s, err := run.HTTP(run.HTTPConfig{Addr: "127.0.0.1:0"}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		if r.Context().Err() == nil {
			_, _ = io.WriteString(w, "finished")
		}
	}))
	require.NoError(t, err)
	stop := serve(t, s)
	answers := make(chan string, 1)
	go func() {
		_, body := get(t, "http://"+s.Addr())
		answers <- body
	}()
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", s.Addr())
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, time.Minute, 5*time.Millisecond, "new connections are refused")
	select {
	case err := <-ended:
		t.Fatalf("the server stopped before its request finished: %v", err)
	default:
	}
	close(leave)
	require.Equal(t, "finished", <-answers)
	require.NoError(t, <-ended)
}

func TestAServerListensFromItsCreation(t *testing.T) {
	t.Parallel()
	first, err := run.HTTP(run.HTTPConfig{Addr: "127.0.0.1:0"}, http.NotFoundHandler())
	require.NoError(t, err)
	_, err = run.HTTP(run.HTTPConfig{Addr: first.Addr()}, http.NotFoundHandler())
	require.ErrorContains(t, err, "listen on "+first.Addr())
	first.Close()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	second, err := run.HTTP(run.HTTPConfig{Addr: "256.0.0.1:0", Listener: l}, http.NotFoundHandler())
	require.NoError(t, err, "a listener is used instead of the address")
	require.Equal(t, l.Addr().String(), second.Addr())
	second.Close()
	require.Error(t, second.Run(t.Context()), "a server without a listener cannot run")
}

func TestAdminServesHealthMetricsAndProfiles(t *testing.T) {
	t.Parallel()
	tel := telemetry.Nop()
	var missing error
	s, err := run.Admin(run.AdminConfig{Addr: "127.0.0.1:0"}, tel, func(context.Context) error { return missing }, struct {
		Key  conf.Secret `env:"SOME_KEY"`
		Size int         `env:"SOME_SIZE"`
	}{"hunter2", 7})
	require.NoError(t, err)
	stop := serve(t, s)
	base := "http://" + s.Addr()
	status, body := get(t, base+"/health")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"ok","service":"test","version":"test"}`, body)
	status, body = get(t, base+"/ready")
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"status":"ready","service":"test"}`, body)
	missing = errors.New("database at 10.0.0.7 is unavailable")
	status, body = get(t, base+"/ready")
	require.Equal(t, 503, status)
	require.JSONEq(t, `{"status":"unavailable","service":"test"}`, body, "the reason is only logged")
	status, _ = get(t, base+"/health")
	require.Equal(t, 200, status, "liveness has no dependencies")
	status, _ = get(t, base+"/metrics")
	require.Equal(t, 200, status)
	status, body = get(t, base+"/config")
	require.Equal(t, 200, status)
	require.Contains(t, body, "SOME_KEY")
	require.Contains(t, body, "[secret]")
	require.NotContains(t, body, "hunter2")
	status, body = get(t, base+"/debug/pprof/goroutine?debug=1")
	require.Equal(t, 200, status)
	require.Contains(t, body, "goroutine profile")
	require.NoError(t, stop())
}

func TestHealthIsServedWithTheAPI(t *testing.T) {
	t.Parallel()
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "api "+r.URL.Path) })
	h := run.WithHealth(telemetry.Nop(), func(context.Context) error { return nil }, api)
	for path, want := range map[string]string{"/health": `"ok"`, "/ready": `"ready"`, "/": "api /", "/clients": "api /clients", "//clients": "api //clients", "/metrics": "api /metrics", "/debug/pprof/": "api /debug/pprof/"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/", nil)
		r.URL.Path = path
		h.ServeHTTP(w, r)
		require.Equal(t, 200, w.Code, path)
		require.Contains(t, w.Body.String(), want, path)
	}
}

func TestWarningsAreShownByAProcessThatIsReady(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(run.Health(telemetry.Nop(), func(context.Context) error { return run.Warnings{`a "model" ends`} }))
	t.Cleanup(server.Close)
	status, body := get(t, server.URL+"/ready")
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"status":"ready","service":"test","warnings":["a \"model\" ends"]}`, body)
}
