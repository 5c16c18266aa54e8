package crm

import (
	"fmt"
	"net/url"
	"slices"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm/internal/phone"
)

// Config is every setting of the service.
type Config struct {
	HTTP           run.HTTPConfig
	Admin          run.AdminConfig
	Database       pg.Config
	Kafka          bus.Config
	Log            telemetry.Config
	Access         access.Config
	CallsURL       string `env:"CALLS_URL"`       // of the calls service, asked about calls that no event has told of yet
	DefaultCountry string `env:"DEFAULT_COUNTRY"` // ISO 3166-1 alpha-2, of phone numbers without a country code
}

// Defaults is what needs no setting. India is where the first users are.
func Defaults() Config {
	return Config{
		HTTP:           run.HTTPConfig{Addr: ":8080", H2C: true},
		Admin:          run.AdminConfig{Addr: ":9090"},
		Database:       pg.Defaults(),
		Kafka:          bus.Defaults(),
		Access:         access.Defaults(),
		Log:            telemetry.Defaults(),
		DefaultCountry: "IN",
	}
}

// Check says everything that is wrong with the configuration.
func (c Config) Check() []string {
	problems := slices.Concat(c.Database.Check(), c.Kafka.Check(), c.Log.Check(), c.Access.Check(), checkURL("CALLS_URL", c.CallsURL))
	if _, err := phone.For(c.DefaultCountry); err != nil {
		problems = append(problems, "DEFAULT_COUNTRY: "+err.Error())
	}
	return problems
}

// TelemetryConfig is how the service logs.
func (c Config) TelemetryConfig() telemetry.Config { return c.Log }

func checkURL(name, text string) []string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return []string{fmt.Sprintf("%s must be the address of a service, such as http://localhost:8080", name)}
	}
	return nil
}
