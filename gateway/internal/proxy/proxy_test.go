package proxy

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/telemetry"
)

func hanging(t *testing.T) *Upstream {
	t.Helper()
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(done) })
	return upstream(t, server.URL)
}

func upstream(t *testing.T, address string) *Upstream {
	t.Helper()
	tel := telemetry.Nop()
	numbers, err := NewNumbers(tel.Metrics)
	require.NoError(t, err)
	u, err := New("calls", address, Options{MaxRequests: 4, MaxStreams: 2}, numbers, tel)
	require.NoError(t, err)
	t.Cleanup(u.Close)
	return u
}

func TestAServiceThatHangsIsATimeout(t *testing.T) {
	t.Parallel()
	requireTimeout := func(h http.Handler, r *http.Request) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, http.StatusGatewayTimeout, w.Code)
		require.Contains(t, w.Body.String(), `"code":"timeout"`)
		require.NotEmpty(t, w.Header().Get("Retry-After"))
	}
	u := hanging(t)
	requireTimeout(u.Quick(time.Millisecond), httptest.NewRequest(http.MethodGet, "/calls", nil))
	u.quickly = routed{u.transport, u.base}
	requireTimeout(u.Quick(time.Millisecond), httptest.NewRequest(http.MethodGet, "/calls", nil))
	u.transport.ResponseHeaderTimeout = time.Millisecond
	requireTimeout(u.Stream(), httptest.NewRequest(http.MethodGet, "/calls", nil))
}

// A service whose host does not even refuse connections is down, which says try again, and not slow.
func TestAServiceThatCannotBeReachedIsUnavailable(t *testing.T) {
	t.Parallel()
	for address, patience := range map[string]time.Duration{"http://service.invalid:8080": time.Minute, "http://127.0.0.1:1": time.Nanosecond} {
		u := upstream(t, address)
		dialer := &net.Dialer{Timeout: patience}
		u.transport.DialContext = dialer.DialContext
		u.conns.dialer = *dialer
		for _, handler := range []http.Handler{u.Quick(time.Minute), u.Stream()} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/calls", nil))
			require.Equal(t, http.StatusServiceUnavailable, w.Code, address)
			require.Equal(t, "2", w.Header().Get("Retry-After"))
			require.NotContains(t, w.Body.String(), "invalid")
		}
		require.Error(t, u.Ready(t.Context()))
	}
}

func TestAServiceThatHangsIsNotReady(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.Error(t, hanging(t).Ready(ctx))
}
