package service

import (
	"context"
	"slices"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Config is the settings that every service has. A service embeds it in its own.
type Config struct {
	HTTP     run.HTTPConfig
	Admin    run.AdminConfig
	Database pg.Config
	Kafka    bus.Config
	Access   *access.Config // nil for a service that knows by itself who is logged in: auth
	Log      telemetry.Config
}

// Defaults are the settings of a service in a container of its own.
func Defaults() Config {
	verified := access.Defaults()
	return Config{
		HTTP:     run.HTTPConfig{Addr: ":8080", H2C: true},
		Admin:    run.AdminConfig{Addr: ":9090"},
		Database: pg.Defaults(),
		Kafka:    bus.Defaults(),
		Access:   &verified,
		Log:      telemetry.Defaults(),
	}
}

// Check lists everything that is wrong with the settings.
func (c Config) Check() []string {
	problems := slices.Concat(c.Database.Check(), c.Kafka.Check(), c.Log.Check())
	if c.Access != nil {
		problems = append(problems, c.Access.Check()...)
	}
	return problems
}

// TelemetryConfig is how the service logs.
func (c Config) TelemetryConfig() telemetry.Config { return c.Log }

// Shared is the settings that every service has.
func (c Config) Shared() Config { return c }

// Settings are those of one service: a struct that embeds Config.
type Settings interface{ Shared() Config }

// Migrate brings the tables of a service to the newest version and starts nothing: its migrate command.
func Migrate(ctx context.Context, name string, cfg Settings, tel telemetry.Set, own ...pg.Migrations) error {
	b, err := OpenDatabase(ctx, name, cfg, tel, own...)
	if err != nil {
		return err
	}
	b.Close()
	return nil
}
