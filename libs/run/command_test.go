package run

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/telemetry"
)

type plainConfig struct{}

func (plainConfig) Check() []string                   { return nil }
func (plainConfig) TelemetryConfig() telemetry.Config { return telemetry.Defaults() }

type tablesConfig struct {
	plainConfig
	migrated *bool
}

func (c tablesConfig) Migrate(context.Context, telemetry.Set) error {
	*c.migrated = true
	return nil
}

func TestMigrateCommandMigratesAndDoesNotStart(t *testing.T) {
	t.Parallel()
	migrated := false
	code := realMain("svc", tablesConfig{migrated: &migrated}, func(context.Context, tablesConfig, telemetry.Set) error {
		t.Error("the service was started")
		return nil
	}, []string{"migrate"}, &bytes.Buffer{}, &bytes.Buffer{})
	require.Equal(t, 0, code)
	require.True(t, migrated)
}

func TestMigrateCommandOfAServiceWithoutTables(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	code := realMain("svc", plainConfig{}, func(context.Context, plainConfig, telemetry.Set) error {
		t.Error("the service was started")
		return nil
	}, []string{"migrate"}, &bytes.Buffer{}, &stderr)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr.String(), "no tables")
}

func TestHealthCommand(t *testing.T) { // not parallel: it sets the environment
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
	}))
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	health := func(addr string) (int, string) {
		t.Setenv("ADMIN_ADDR", addr)
		var stderr bytes.Buffer
		return realMain("svc", plainConfig{}, nil, []string{"health"}, &bytes.Buffer{}, &stderr), stderr.String()
	}

	for _, addr := range []string{":" + port, "127.0.0.1:" + port, "0.0.0.0:" + port} {
		code, stderr := health(addr)
		require.Equal(t, 0, code, "%s: %s", addr, stderr)
	}
	status = http.StatusServiceUnavailable
	code, stderr := health(":" + port)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "503")
	server.Close()
	code, _ = health(":" + port)
	require.Equal(t, exitFailed, code)
}
