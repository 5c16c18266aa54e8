package crm

import (
	"cmp"
	"slices"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/phone"
	"github.com/convoflow/convoflow/libs/service"
)

// Config is every setting of the service.
type Config struct {
	service.Config
	CallsURL       string `env:"CALLS_URL"`       // of the calls service, for calls whose event has not arrived yet
	DefaultCountry string `env:"DEFAULT_COUNTRY"` // ISO 3166-1 alpha-2, of phone numbers without a country code

	InboundSecret conf.Secret `env:"PABBLY_INBOUND_SECRET"` // signs the leads that Pabbly sends
	WebhookSecret conf.Secret `env:"PABBLY_WEBHOOK_SECRET"` // instead of InboundSecret, if that is not set
}

// Defaults returns the default settings. India is where the first users are.
func Defaults() Config { return Config{Config: service.Defaults(), DefaultCountry: "IN"} }

// Check returns all problems of the settings.
func (c Config) Check() []string {
	problems := slices.Concat(c.Config.Check(), conf.CheckOrigin("CALLS_URL", c.CallsURL, "http://calls:8080"))
	if _, err := phone.For(c.DefaultCountry); err != nil {
		problems = append(problems, "DEFAULT_COUNTRY: "+err.Error())
	}
	return problems
}

// HeapGrowth implements run.Allocator: most of what a request allocates is garbage after it.
func (c Config) HeapGrowth() int { return 400 }

// inboundSecret returns the secret of inbound leads, "" if there is none: then the endpoint is closed.
func (c Config) inboundSecret() string { return string(cmp.Or(c.InboundSecret, c.WebhookSecret)) }
