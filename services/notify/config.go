package notify

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/services/notify/internal/pabbly"
)

// Config is every setting of the service.
type Config struct {
	service.Config
	SecretKey     conf.Secret `env:"SECRET_KEY"`                  // seals URLs and secrets in the database
	PreviousKey   conf.Secret `env:"SECRET_KEY_PREVIOUS"`         // opens what was sealed with the secret before; empty for none
	PublicURL     string      `env:"PUBLIC_URL"`                  // of the API, for the links in payloads
	WebhookURL    conf.Secret `env:"PABBLY_WEBHOOK_URL"`          // the receiver until an endpoint is created with the API
	WebhookSecret conf.Secret `env:"PABBLY_WEBHOOK_SECRET"`       // signs them
	AllowPrivate  []string    `env:"WEBHOOK_ALLOW_PRIVATE_CIDRS"` // comma-separated; addresses outside the public internet that may be reached
	Workers       int         `env:"WEBHOOK_WORKERS"`             // webhooks sent at the same time by this process
	RetentionDays int         `env:"DELIVERY_RETENTION_DAYS"`     // how long deliveries that have ended are stored
}

// maxWorkers is far more than one process can use: a typing error must not open a million sockets.
const maxWorkers = 1000

const maxRetentionDays = 3650

// Defaults returns the default settings.
func Defaults() Config {
	return Config{Config: service.Defaults(), PublicURL: "http://127.0.0.1:8000", Workers: 32, RetentionDays: 30}
}

// Check returns all problems of the settings.
func (c Config) Check() []string {
	problems := slices.Concat(c.Config.Check(), conf.CheckSecret("SECRET_KEY", c.SecretKey),
		conf.CheckURL("PUBLIC_URL", c.PublicURL, "https://crm.example.com"), c.checkWebhook())
	if _, err := c.allowed(); err != nil {
		problems = append(problems, "WEBHOOK_ALLOW_PRIVATE_CIDRS: "+err.Error())
	}
	if c.Workers < 1 || c.Workers > maxWorkers {
		problems = append(problems, fmt.Sprintf("WEBHOOK_WORKERS must be 1 to %d", maxWorkers))
	}
	if c.RetentionDays < 1 || c.RetentionDays > maxRetentionDays {
		problems = append(problems, fmt.Sprintf("DELIVERY_RETENTION_DAYS must be 1 to %d", maxRetentionDays))
	}
	return problems
}

func (c Config) retention() time.Duration { return time.Duration(c.RetentionDays) * 24 * time.Hour }

// HeapGrowth implements run.Allocator: most of what a delivery allocates is garbage after it.
func (c Config) HeapGrowth() int { return 400 }

func (c Config) checkWebhook() (problems []string) {
	if c.WebhookURL != "" {
		if err := c.checkReceiver(c.WebhookURL.Reveal()); err != nil {
			problems = append(problems, "PABBLY_WEBHOOK_URL "+err.Error())
		}
		if c.WebhookSecret == "" {
			problems = append(problems, "PABBLY_WEBHOOK_SECRET is not set: PABBLY_WEBHOOK_URL needs it to sign with (make one with: openssl rand -base64 48)")
		}
	}
	if c.WebhookSecret != "" {
		if err := pabbly.CheckSecret(c.WebhookSecret.Reveal()); err != nil {
			problems = append(problems, "PABBLY_WEBHOOK_SECRET "+err.Error())
		}
	}
	return problems
}

// checkReceiver says what is wrong with the URL of a receiver, without repeating it. Only receivers in an allowed private network may do
// without TLS.
func (c Config) checkReceiver(url string) error {
	allowed, _ := c.allowed() // Check reports the error
	return pabbly.CheckReceiver(url, allowed)
}

// allowed returns AllowPrivate as prefixes.
func (c Config) allowed() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range c.AllowPrivate {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a CIDR such as 10.0.0.0/8", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
