package rpc_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/rpc"
)

func TestAPathWithItsOwnPatternIsNoWildcardsValue(t *testing.T) {
	t.Parallel()
	m := rpc.NewMux()
	for _, pattern := range []string{"GET /calls", "POST /calls/upload", "GET /calls/{id}", "DELETE /calls/{id}", "GET /calls/{id}/audio", "GET /calls/health"} {
		m.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Served-By", pattern) }))
	}
	for _, c := range []struct {
		method, path, by, allow string
	}{
		{"POST", "/calls/upload", "POST /calls/upload", ""},
		{"POST", "/calls/upload/", "POST /calls/upload", ""},
		{"GET", "/calls/upload", "", "POST"},
		{"HEAD", "/calls/upload", "", "POST"},
		{"GET", "/calls/upload//", "", "POST"},
		{"GET", "/calls/uplo%61d", "", "POST"},
		{"DELETE", "/calls/upload", "", "POST"},
		{"PUT", "/calls/upload", "", "POST"},
		{"GET", "/calls/uploads", "GET /calls/{id}", ""},
		{"DELETE", "/calls/uploads", "DELETE /calls/{id}", ""},
		{"GET", "/calls/upload/audio", "GET /calls/{id}/audio", ""},
		{"HEAD", "/calls/health", "GET /calls/health", ""},
		{"DELETE", "/calls/health", "", "GET, HEAD"},
		{"POST", "/calls", "", "GET, HEAD"},
		{"POST", "/calls/x", "", "GET, HEAD, DELETE"},
	} {
		w := httptest.NewRecorder()
		m.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		require.Equal(t, c.by, w.Header().Get("Served-By"), "%s %s", c.method, c.path)
		require.Equal(t, c.allow, w.Header().Get("Allow"), "%s %s", c.method, c.path)
		require.Equal(t, c.allow != "", w.Code == http.StatusMethodNotAllowed, "%s %s", c.method, c.path)
	}
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(strings.Repeat("X", 5000), "/calls", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	require.NotContains(t, w.Body.String(), strings.Repeat("X", 33))
}

func TestMuxServesPatternsThatConflictInAServeMux(t *testing.T) {
	t.Parallel()
	m := rpc.NewMux()
	for _, pattern := range []string{"GET /leads/imports/{id}", "GET /leads/{id}/timeline", "POST /leads/imports/{id}/revert", "GET /leads/{id}", "GET /leads/imports/newest"} {
		m.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(pattern + " " + r.PathValue("id")))
		}))
	}
	for request, want := range map[string]string{
		"GET /leads/imports/7": "GET /leads/imports/{id} 7", "GET /leads/imports/timeline": "GET /leads/imports/{id} timeline", "GET /leads/7/timeline": "GET /leads/{id}/timeline 7",
		"POST /leads/imports/7/revert/": "POST /leads/imports/{id}/revert 7", "GET /leads/imports": "GET /leads/{id} imports", "GET /leads/imports/newest": "GET /leads/imports/newest ",
	} {
		method, path, _ := strings.Cut(request, " ")
		got := httptest.NewRecorder()
		m.ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		require.Equal(t, want, got.Body.String(), request)
	}
	got := httptest.NewRecorder()
	m.ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), "GET", "/leads/imports/7/revert", nil))
	require.Equal(t, http.StatusMethodNotAllowed, got.Code)
	require.Equal(t, "POST", got.Header().Get("Allow"))
}
