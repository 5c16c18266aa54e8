package service

import (
	"slices"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Config is the settings that all services share. A service embeds it in its own Config.
type Config struct {
	HTTP     run.HTTPConfig
	Admin    run.AdminConfig
	Database pg.Config
	Kafka    bus.Config
	Access   *access.Config // nil for auth, which reads sessions from its own database
	Log      telemetry.Config
	Clock    clock.Clock `env:"-"` // of this process; tests give it a wrong one
}

// Defaults are the settings of a service in a container of its own.
func Defaults() Config {
	defaults, server := access.Defaults(), run.DefaultHTTP(":8080")
	server.H2C = true
	return Config{
		HTTP:     server,
		Admin:    run.AdminConfig{Addr: ":9090"},
		Database: pg.Defaults(),
		Kafka:    bus.Defaults(),
		Access:   &defaults,
		Log:      telemetry.Defaults(),
		Clock:    clock.System{},
	}
}

// Check lists the problems with the settings.
func (c Config) Check() []string {
	problems := slices.Concat(c.HTTP.Check(), c.Database.Check(), c.Kafka.Check(), c.Log.Check())
	if c.Access != nil {
		problems = append(problems, c.Access.Check()...)
	}
	return problems
}

// TelemetryConfig returns the settings of logging.
func (c Config) TelemetryConfig() telemetry.Config { return c.Log }

// Shared returns c.
func (c Config) Shared() Config { return c }

// Settings is the configuration of one service: a struct that embeds Config.
type Settings interface {
	conf.Checker
	Shared() Config
}
