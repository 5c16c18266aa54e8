package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Config is what the gateway can be told.
type Config struct {
	HTTP  run.HTTPConfig
	Admin run.AdminConfig
	Log   telemetry.Config

	AuthURL   string `env:"AUTH_URL"`
	CallsURL  string `env:"CALLS_URL"`
	CRMURL    string `env:"CRM_URL"`
	NotifyURL string `env:"NOTIFY_URL"`

	MaxAudioSizeMB int      `env:"MAX_AUDIO_SIZE_MB"` // of 2^20 bytes
	AllowedOrigins []string `env:"ALLOWED_ORIGINS"`   // of web apps on other hosts, such as https://app.example.com
	AllowedHosts   []string `env:"ALLOWED_HOSTS"`     // host names without port; empty allows any
	TrustedProxies []string `env:"TRUSTED_PROXIES"`   // CIDRs of the proxies whose X-Forwarded-For counts

	// Mount is what else the process serves here: path prefix, such as /inbox, to handler. It needs no token; an answer
	// that is a web page sets its own Content-Security-Policy.
	Mount map[string]http.Handler `env:"-"`
}

// Defaults is a gateway on port 8000 that takes recordings up to 100 MB.
func Defaults() Config {
	return Config{
		HTTP:           run.HTTPConfig{Addr: ":8000"},
		Admin:          run.AdminConfig{Addr: ":9090"},
		Log:            telemetry.Defaults(),
		MaxAudioSizeMB: 100,
	}
}

// TelemetryConfig is how the gateway logs.
func (c Config) TelemetryConfig() telemetry.Config { return c.Log }

// Check lists everything that is wrong with the configuration.
func (c Config) Check() []string {
	problems := c.Log.Check()
	for name, address := range map[string]string{"AUTH_URL": c.AuthURL, "CALLS_URL": c.CallsURL, "CRM_URL": c.CRMURL, "NOTIFY_URL": c.NotifyURL} {
		if u, err := url.Parse(address); err != nil || !isOrigin(u) {
			problems = append(problems, fmt.Sprintf("%s must be where the service listens, such as http://%s:8080", name, strings.ToLower(strings.TrimSuffix(name, "_URL"))))
		}
	}
	if c.MaxAudioSizeMB < 1 || c.MaxAudioSizeMB > 4096 {
		problems = append(problems, "MAX_AUDIO_SIZE_MB must be between 1 and 4096")
	}
	for _, origin := range trimmed(c.AllowedOrigins) {
		if origin == "*" {
			problems = append(problems, "ALLOWED_ORIGINS must name each origin: * would let any web page act for a logged-in agent")
		} else if u, err := url.Parse(origin); err != nil || !isOrigin(u) || strings.HasSuffix(origin, "/") {
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

// isOrigin reports whether u is a scheme and a host and nothing else.
func isOrigin(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil &&
		strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == ""
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
