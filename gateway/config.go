package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/convoflow/convoflow/gateway/internal/guard"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Config is the configuration of the gateway.
type Config struct {
	HTTP  run.HTTPConfig
	Admin run.AdminConfig
	Log   telemetry.Config

	Kafka     bus.Config // for the events of ended sessions
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
	Clients   Clients

	ConsoleDir string `env:"CONSOLE_DIR"` // serves the console from disk while it is developed

	// Demo says that the AI is the offline one, which the console shows.
	Demo bool `env:"-"`

	// Linger is how long the gateway discards the rest of a body after an early response. MaxBytes 0 is twice MaxAudioSizeMB.
	Linger run.Linger `env:"-"`

	// Mount adds handlers by path prefix, such as /inbox. They need no token. A handler that serves web pages sets its own
	// Content-Security-Policy. Requests have no X-Forwarded headers; those that came through a proxy have Via.
	Mount map[string]http.Handler `env:"-"`
}

// Rates are the requests per minute of one agent, by class of operations; 0 is no limit. Login, which has no agent yet, and
// Inbound, which has none, are limited per address.
type Rates struct {
	Login         int `env:"RATE_LIMIT_LOGIN_PER_MINUTE"`
	Upload        int `env:"RATE_LIMIT_UPLOAD_PER_MINUTE"`
	Read          int `env:"RATE_LIMIT_READ_PER_MINUTE"`
	Write         int `env:"RATE_LIMIT_WRITE_PER_MINUTE"`
	Analytics     int `env:"RATE_LIMIT_ANALYTICS_PER_MINUTE"`
	Inbound       int `env:"RATE_LIMIT_INBOUND_PER_MINUTE"`
	AddressFactor int `env:"RATE_LIMIT_ADDRESS_FACTOR"` // limit of an address as a multiple of an agent's: an office shares one address
}

// Upstreams configures the connections to the services.
type Upstreams struct {
	Protocol    string `env:"UPSTREAM_PROTOCOL"`       // http1, or h2c for HTTP/2 without TLS
	MaxRequests int    `env:"UPSTREAM_MAX_CONCURRENT"` // concurrent requests to one service
	MaxUploads  int    `env:"UPSTREAM_MAX_UPLOADS"`    // concurrent uploads to one service
	MaxStreams  int    `env:"UPSTREAM_MAX_STREAMS"`    // concurrent recordings and event streams of one service
}

// Clients says how slow a client may be: while the gateway waits for it to send or to receive, BytesPerSecond must pass on average
// of each window.
type Clients struct {
	Window         time.Duration `env:"CLIENT_RATE_WINDOW"`
	BytesPerSecond int           `env:"CLIENT_MIN_BYTES_PER_SECOND"` // 0 accepts any byte in each window
}

const (
	http1 = "http1"
	h2c   = "h2c"
)

// Defaults returns the configuration of a gateway on port 8000 that accepts recordings up to 100 MB. An app that polls a call
// sends 20 requests a minute, and Pabbly Connect up to 200 leads a second.
func Defaults() Config {
	return Config{
		HTTP:           run.DefaultHTTP(":8000"),
		Admin:          run.AdminConfig{Addr: ":9090"},
		Log:            telemetry.Defaults(),
		Kafka:          bus.Defaults(),
		Access:         access.Defaults(),
		MaxAudioSizeMB: 100,
		Rates:          Rates{Login: 60, Upload: 30, Read: 600, Write: 240, Analytics: 60, Inbound: 300 * 60, AddressFactor: 10},
		Upstreams:      Upstreams{Protocol: http1, MaxRequests: 256, MaxUploads: 512, MaxStreams: 1024},
		Clients:        Clients{Window: guard.StallTimeout, BytesPerSecond: 1000},
		Linger:         run.DefaultLinger(0),
	}
}

// TelemetryConfig returns the configuration of logs and traces.
func (c Config) TelemetryConfig() telemetry.Config { return c.Log }

// HeapGrowth implements run.Allocator: the live heap has a few MB, and at full load a request leaves as much garbage in milliseconds.
func (c Config) HeapGrowth() int { return 800 }

// Check returns all problems of the configuration.
func (c Config) Check() []string {
	problems := slices.Concat(c.HTTP.Check(), c.Log.Check(), c.Kafka.Check(), c.Access.Check(), c.Rates.check(), c.Upstreams.check(), c.Clients.check())
	for name, address := range map[string]string{"CALLS_URL": c.CallsURL, "CRM_URL": c.CRMURL, "NOTIFY_URL": c.NotifyURL} {
		problems = append(problems, conf.CheckOrigin(name, address, "http://"+strings.ToLower(strings.TrimSuffix(name, "_URL"))+":8080")...)
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
		if first, rest, _ := strings.Cut(strings.TrimPrefix(prefix, "/"), "/"); "/"+first != prefix || first == "" || rest != "" {
			problems = append(problems, fmt.Sprintf("the mounted prefix %q is not one free path segment such as /inbox", prefix))
		}
	}
	return problems
}

func (c Config) linger() run.Linger {
	if c.Linger.MaxBytes == 0 {
		c.Linger.MaxBytes = 2 * int64(c.MaxAudioSizeMB) << 20
	}
	return c.Linger
}

func (r Rates) check() (problems []string) {
	for name, perMinute := range map[string]int{
		"RATE_LIMIT_LOGIN_PER_MINUTE": r.Login, "RATE_LIMIT_UPLOAD_PER_MINUTE": r.Upload, "RATE_LIMIT_READ_PER_MINUTE": r.Read,
		"RATE_LIMIT_WRITE_PER_MINUTE": r.Write, "RATE_LIMIT_ANALYTICS_PER_MINUTE": r.Analytics, "RATE_LIMIT_INBOUND_PER_MINUTE": r.Inbound,
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
	for name, most := range map[string]int{"UPSTREAM_MAX_CONCURRENT": u.MaxRequests, "UPSTREAM_MAX_UPLOADS": u.MaxUploads, "UPSTREAM_MAX_STREAMS": u.MaxStreams} {
		if most < 1 || most > 100_000 {
			problems = append(problems, name+" must be 1 to 100000")
		}
	}
	return problems
}

func (c Clients) check() (problems []string) {
	if c.Window < time.Second || c.Window > time.Hour {
		problems = append(problems, "CLIENT_RATE_WINDOW must be 1s to 1h")
	}
	if c.BytesPerSecond < 0 || c.BytesPerSecond > 1e6 {
		problems = append(problems, "CLIENT_MIN_BYTES_PER_SECOND must be 0 to 1000000")
	}
	return problems
}

func (c Clients) pace() guard.Pace {
	return guard.Pace{Window: c.Window, Bytes: int64(float64(c.BytesPerSecond) * c.Window.Seconds())}
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// trimmed removes the blanks around the parts of a list, and empty parts.
func trimmed(list []string) []string {
	var out []string
	for _, part := range list {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
