package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/telemetry"
)

type settings struct {
	Name string `env:"RUN_TEST_NAME"`
	Log  telemetry.Config
	bad  []string
}

func (s settings) Check() []string                   { return s.bad }
func (s settings) TelemetryConfig() telemetry.Config { return s.Log }

func TestExitCodes(t *testing.T) {
	t.Parallel()
	good := settings{Name: "default", Log: telemetry.Defaults()}
	wrong := good
	wrong.bad = []string{"B is wrong", "A is wrong"}
	tests := map[string]struct {
		cfg            settings
		args           []string
		end            error
		code           int
		started        bool
		stdout, stderr []string
	}{
		"stopped":            {cfg: good, started: true, stdout: []string{`"msg":"starting"`, `"msg":"stopped"`}},
		"canceled":           {cfg: good, started: true, end: context.Canceled, stdout: []string{`"msg":"stopped"`}},
		"failed":             {cfg: good, started: true, end: errors.New("outbox: broken"), code: 1, stdout: []string{"outbox: broken"}},
		"wrong settings":     {cfg: wrong, code: 2, stderr: []string{"wrong settings", "  - A is wrong\n  - B is wrong"}},
		"unknown argument":   {cfg: good, args: []string{"frobnicate"}, code: 2, stderr: []string{`unknown argument "frobnicate"`}},
		"nothing to migrate": {cfg: good, args: []string{"migrate"}, code: 2, stderr: []string{`unknown argument "migrate"`}},
		"help":               {cfg: good, args: []string{"--help"}, stdout: []string{"RUN_TEST_NAME", "default", "LOG_LEVEL", "INFO", "NAME_FILE"}},
		"config":             {cfg: good, args: []string{"config"}, stdout: []string{"RUN_TEST_NAME", "default"}},
		"config, wrong":      {cfg: wrong, args: []string{"config"}, code: 2, stderr: []string{"A is wrong"}},
		"help, wrong":        {cfg: wrong, args: []string{"-h"}, stdout: []string{"RUN_TEST_NAME"}},
		"version":            {cfg: wrong, args: []string{"version"}, stdout: []string{"crm " + Version() + "\n"}},
		"--version":          {cfg: good, args: []string{"--version"}, stdout: []string{"crm "}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			started := false
			code := realMain("crm", tt.cfg, func(_ context.Context, cfg settings, tel telemetry.Set) error {
				started = true
				require.Equal(t, tt.cfg, cfg)
				require.Equal(t, "crm", tel.Service)
				return tt.end
			}, tt.args, &stdout, &stderr)
			require.Equal(t, tt.code, code, stderr.String())
			require.Equal(t, tt.started, started)
			for _, text := range tt.stdout {
				require.Contains(t, stdout.String(), text)
			}
			for _, text := range tt.stderr {
				require.Contains(t, stderr.String(), text)
			}
			if tt.stdout == nil {
				require.Empty(t, stdout.String())
			}
		})
	}
}

type everything struct{ settings }

func (everything) Commands() []Command {
	return []Command{{Name: "migrate", Help: "migrate"}, {Name: "keys rotate", Help: "rotate the keys"}}
}

// The gateway's help offered migrate, which it refuses.
func TestTheHelpListsExactlyTheCommands(t *testing.T) {
	t.Parallel()
	listed := func(cfg any) (names []string) {
		for line := range strings.Lines(commands(cfg)) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
			names = append(names, name)
		}
		return names
	}
	require.Equal(t, []string{"config", "health", "help", "version"}, listed(settings{}))
	require.Equal(t, []string{"config", "health", "help", "keys rotate", "migrate", "version"}, listed(everything{}))
}

func TestVersionIsNeverEmpty(t *testing.T) {
	t.Parallel()
	require.NotEmpty(t, Version())
}

// It is the only parallel test that sets ADMIN_ADDR.
func TestTheHealthCommandRequestsHealthFromTheRunningProcess(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	health := func() (int, string) {
		var stderr bytes.Buffer
		return realMain("crm", settings{}, nil, []string{"health"}, io.Discard, &stderr), stderr.String()
	}
	require.NoError(t, os.Setenv("ADMIN_ADDR", server.Listener.Addr().String()))
	code, stderr := health()
	require.Equal(t, 0, code, stderr)
	status = http.StatusServiceUnavailable
	code, stderr = health()
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "503")
	server.Close()
	code, _ = health()
	require.Equal(t, 1, code)
}

type commanding struct {
	settings
	calls *[]string
}

func (c commanding) Commands() []Command {
	return []Command{{Name: "things count", Help: "[NAME]: count them", Run: func(_ context.Context, _ telemetry.Set, args []string) error {
		*c.calls = append(*c.calls, c.Name)
		*c.calls = append(*c.calls, args...)
		return nil
	}}}
}

func TestCommandsOfAService(t *testing.T) {
	t.Parallel()
	var calls []string
	run := func(args ...string) (int, string) {
		var stdout, stderr bytes.Buffer
		code := realMain("crm", commanding{settings{Name: "default", Log: telemetry.Defaults()}, &calls}, func(context.Context, commanding, telemetry.Set) error {
			return errors.New("started")
		}, args, &stdout, &stderr)
		return code, stdout.String() + stderr.String()
	}
	code, out := run("things", "count", "--all", "x")
	require.Equal(t, 0, code, out)
	require.Equal(t, []string{"default", "--all", "x"}, calls)
	for _, args := range [][]string{{"things"}, {"things", "lose"}, {"count"}} {
		code, out := run(args...)
		require.Equal(t, exitUsage, code)
		require.Contains(t, out, "unknown argument")
	}
	code, out = run("--help")
	require.Equal(t, 0, code)
	require.Contains(t, out, "  things count   [NAME]: count them\n")
}
