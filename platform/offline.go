package platform

import (
	"context"
	"slices"

	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/platform/internal/offline"
)

// OfflineConfig is the configuration of the offline AI as a server of its own.
type OfflineConfig struct {
	HTTP  run.HTTPConfig
	Admin run.AdminConfig
	Log   telemetry.Config
}

// OfflineDefaults listens on port 8080.
func OfflineDefaults() OfflineConfig {
	return OfflineConfig{HTTP: run.DefaultHTTP(":8080"), Admin: run.AdminConfig{Addr: ":9090"}, Log: telemetry.Defaults()}
}

// Check implements conf.Checker.
func (c OfflineConfig) Check() []string { return slices.Concat(c.HTTP.Check(), c.Log.Check()) }

// TelemetryConfig implements run.Config.
func (c OfflineConfig) TelemetryConfig() telemetry.Config { return c.Log }

// NewOffline returns the offline AI, which is listening.
func NewOffline(cfg OfflineConfig, tel telemetry.Set) (_ *run.App, err error) {
	g := run.NewGroup(tel)
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	server, err := run.HTTP(cfg.HTTP, offline.New(offline.Config{Log: tel.Log}))
	if err != nil {
		return nil, err
	}
	g.Defer("http", server.Close)
	ready := func(context.Context) error { return nil }
	admin, err := run.Admin(cfg.Admin, tel, ready, cfg)
	if err != nil {
		return nil, err
	}
	g.Defer("admin", admin.Close)
	g.Add("admin", admin)
	g.Add("http", server)
	return run.NewApp(g, server, ready), nil
}
