package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Config is what the gateway can be told.
type Config struct {
	HTTP  run.HTTPConfig
	Admin run.AdminConfig
	Log   telemetry.Config

	Kafka     bus.Config // tells which sessions have ended
	Access    access.Config
	CallsURL  string `env:"CALLS_URL"`
	CRMURL    string `env:"CRM_URL"`
	NotifyURL string `env:"NOTIFY_URL"`

	MaxAudioSizeMB int      `env:"MAX_AUDIO_SIZE_MB"` // of 2^20 bytes
	AllowedOrigins []string `env:"ALLOWED_ORIGINS"`   // of web apps on other hosts, such as https://app.example.com
	AllowedHosts   []string `env:"ALLOWED_HOSTS"`     // host names without port; empty allows any
	TrustedProxies []string `env:"TRUSTED_PROXIES"`   // CIDRs of the proxies whose X-Forwarded-For counts

	Rates     Rates
	Upstreams Upstreams

	// Mount is what else the process serves here: path prefix, such as /inbox, to handler. It needs no token; an answer
	// that is a web page sets its own Content-Security-Policy.
	Mount map[string]http.Handler `env:"-"`
}

// Rates are requests per minute of one agent by class of operations; 0 is no limit. Where nobody is logged in, at the login,
// the number is that of an address.
type Rates struct {
	Login         int `env:"RATE_LIMIT_LOGIN_PER_MINUTE"`
	Upload        int `env:"RATE_LIMIT_UPLOAD_PER_MINUTE"`
	Read          int `env:"RATE_LIMIT_READ_PER_MINUTE"`
	Write         int `env:"RATE_LIMIT_WRITE_PER_MINUTE"`
	Analytics     int `env:"RATE_LIMIT_ANALYTICS_PER_MINUTE"`
	AddressFactor int `env:"RATE_LIMIT_ADDRESS_FACTOR"` // an address may ask so many times as often as one agent: an office shares one
}

// Upstreams is how the services are reached.
type Upstreams struct {
	Protocol    string `env:"UPSTREAM_PROTOCOL"`       // http1, or h2c for HTTP/2 without TLS
	MaxRequests int    `env:"UPSTREAM_MAX_CONCURRENT"` // requests to one service at the same time
	MaxStreams  int    `env:"UPSTREAM_MAX_STREAMS"`    // uploads, recordings and event streams to one service at the same time
}

const (
	http1 = "http1"
	h2c   = "h2c"
)

// Defaults is a gateway on port 8000 that takes recordings up to 100 MB. An app that polls a call asks 20 times a minute.
func Defaults() Config {
	return Config{
		HTTP:           run.HTTPConfig{Addr: ":8000"},
		Admin:          run.AdminConfig{Addr: ":9090"},
		Log:            telemetry.Defaults(),
		Kafka:          bus.Defaults(),
		Access:         access.Defaults(),
		MaxAudioSizeMB: 100,
		Rates:          Rates{Login: 60, Upload: 30, Read: 600, Write: 240, Analytics: 60, AddressFactor: 10},
		Upstreams:      Upstreams{Protocol: http1, MaxRequests: 256, MaxStreams: 1024},
	}
}

// TelemetryConfig is how the gateway logs.
func (c Config) TelemetryConfig() telemetry.Config { return c.Log }

// Check lists everything that is wrong with the configuration.
func (c Config) Check() []string {
	problems := slices.Concat(c.Log.Check(), c.Kafka.Check(), c.Access.Check(), c.Rates.check(), c.Upstreams.check())
	for name, address := range map[string]string{"CALLS_URL": c.CallsURL, "CRM_URL": c.CRMURL, "NOTIFY_URL": c.NotifyURL} {
		if !conf.IsOrigin(address) {
			problems = append(problems, fmt.Sprintf("%s must be where the service listens, such as http://%s:8080", name, strings.ToLower(strings.TrimSuffix(name, "_URL"))))
		}
	}
	if c.MaxAudioSizeMB < 1 || c.MaxAudioSizeMB > 4096 {
		problems = append(problems, "MAX_AUDIO_SIZE_MB must be between 1 and 4096")
	}
	for _, origin := range trimmed(c.AllowedOrigins) {
		if strings.Contains(origin, "*") {
			problems = append(problems, "ALLOWED_ORIGINS must name each origin: * would let any web page act for a logged-in agent")
		} else if !conf.IsOrigin(origin) || strings.HasSuffix(origin, "/") {
			problems = append(problems, fmt.Sprintf("ALLOWED_ORIGINS: %q is not an origin such as https://app.example.com", origin))
		}
	}
	for _, host := range trimmed(c.AllowedHosts) {
		if strings.ContainsAny(host, "/*@") || (strings.Contains(host, ":") && !isAddress(host)) {
			problems = append(problems, fmt.Sprintf("ALLOWED_HOSTS: %q is not a host name without scheme and port", host))
		}
	}
	for _, cidr := range trimmed(c.TrustedProxies) {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			problems = append(problems, fmt.Sprintf("TRUSTED_PROXIES: %q is not a CIDR such as 10.0.0.0/8", cidr))
		}
	}
	for prefix := range c.Mount {
		if first, rest, _ := strings.Cut(strings.TrimPrefix(prefix, "/"), "/"); "/"+first != prefix || first == "" || rest != "" || isRouted(prefix) {
			problems = append(problems, fmt.Sprintf("the mounted prefix %q is not one free path segment such as /inbox", prefix))
		}
	}
	return problems
}

func (r Rates) check() (problems []string) {
	for name, perMinute := range map[string]int{
		"RATE_LIMIT_LOGIN_PER_MINUTE": r.Login, "RATE_LIMIT_UPLOAD_PER_MINUTE": r.Upload, "RATE_LIMIT_READ_PER_MINUTE": r.Read,
		"RATE_LIMIT_WRITE_PER_MINUTE": r.Write, "RATE_LIMIT_ANALYTICS_PER_MINUTE": r.Analytics,
	} {
		if perMinute < 0 || perMinute > 1e9 {
			problems = append(problems, name+" must be requests per minute, or 0 for no limit")
		}
	}
	if r.AddressFactor < 1 || r.AddressFactor > 1e6 {
		problems = append(problems, "RATE_LIMIT_ADDRESS_FACTOR must be 1 or more")
	}
	return problems
}

func (u Upstreams) check() (problems []string) {
	if u.Protocol != http1 && u.Protocol != h2c {
		problems = append(problems, "UPSTREAM_PROTOCOL must be http1 or h2c")
	}
	for name, most := range map[string]int{"UPSTREAM_MAX_CONCURRENT": u.MaxRequests, "UPSTREAM_MAX_STREAMS": u.MaxStreams} {
		if most < 1 || most > 100_000 {
			problems = append(problems, name+" must be 1 to 100000")
		}
	}
	return problems
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func isRouted(prefix string) bool {
	return slices.ContainsFunc(routes(0), func(r route) bool {
		_, path, _ := strings.Cut(r.pattern, " ")
		return path == prefix || strings.HasPrefix(path, prefix+"/")
	})
}

// trimmed is a comma-separated setting without the blanks around its parts and without empty parts.
func trimmed(list []string) []string {
	var out []string
	for _, part := range list {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
