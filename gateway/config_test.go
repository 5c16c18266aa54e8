package gateway

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestEveryInvalidSettingIsReported(t *testing.T) {
	t.Parallel()
	_, err := conf.Load(Defaults(), []string{
		"CALLS_URL=calls:8080", "CRM_URL=http://crm:8080/", "NOTIFY_URL=http://u:p@notify", "MAX_AUDIO_SIZE_MB=0",
		"ALLOWED_ORIGINS=https://*, https://app.example.com/x", "ALLOWED_HOSTS=https://a.example.com,b.example.com:80", "TRUSTED_PROXIES=10.0.0.1", "LOG_FORMAT=xml",
		"ACCESS_TOKEN_EXPIRE_MINUTES=0", "RATE_LIMIT_READ_PER_MINUTE=-1", "RATE_LIMIT_ADDRESS_FACTOR=0", "UPSTREAM_PROTOCOL=h3", "UPSTREAM_MAX_CONCURRENT=0",
	})
	var wrong *conf.Error
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, []string{
		"ACCESS_TOKEN_EXPIRE_MINUTES must be 1 to 43200, and what auth has",
		`ALLOWED_HOSTS: "b.example.com:80" is not a host name without scheme and port`,
		`ALLOWED_HOSTS: "https://a.example.com" is not a host name without scheme and port`,
		"ALLOWED_ORIGINS must name each origin: * would let any web page act for a logged-in agent",
		`ALLOWED_ORIGINS: "https://app.example.com/x" is not an origin such as https://app.example.com`,
		"AUTH_URL is not set: such as http://auth:8080",
		"CALLS_URL must be where the service listens, such as http://calls:8080",
		"KAFKA_BROKERS is not set: host:port, comma-separated",
		"LOG_FORMAT must be json or text",
		"MAX_AUDIO_SIZE_MB must be between 1 and 4096",
		"NOTIFY_URL must be where the service listens, such as http://notify:8080",
		"RATE_LIMIT_ADDRESS_FACTOR must be 1 or more",
		"RATE_LIMIT_READ_PER_MINUTE must be requests per minute, or 0 for no limit",
		`TRUSTED_PROXIES: "10.0.0.1" is not a CIDR such as 10.0.0.0/8`,
		"UPSTREAM_MAX_CONCURRENT must be 1 to 100000",
		"UPSTREAM_PROTOCOL must be http1 or h2c",
	}, wrong.Problems)
}

func TestValidSettingsAreAccepted(t *testing.T) {
	t.Parallel()
	cfg, err := conf.Load(Defaults(), []string{
		"HTTP_ADDR=:1", "KAFKA_BROKERS=kafka:9092", "AUTH_URL=http://auth:8080", "CALLS_URL=http://calls:8080", "CRM_URL=http://crm:8080", "NOTIFY_URL=https://notify",
		"ALLOWED_ORIGINS=https://app.example.com, http://localhost:3000", "ALLOWED_HOSTS=api.example.com, ::1", "TRUSTED_PROXIES=10.0.0.0/8,fd00::/8",
	})
	require.NoError(t, err)
	require.Equal(t, []string{"https://app.example.com", "http://localhost:3000"}, trimmed(cfg.AllowedOrigins))
	require.Len(t, prefixes(cfg.TrustedProxies), 2)
	require.Equal(t, ":1", cfg.HTTP.Addr)
}

func TestInvalidSettingsStartNothing(t *testing.T) {
	t.Parallel()
	cfg := Defaults()
	cfg.AllowedOrigins = []string{"*"}
	cfg.Mount = map[string]http.Handler{"inbox": nil, "/a/b": nil, "/inbox": nil}
	_, err := New(t.Context(), cfg, telemetry.Nop())
	require.ErrorContains(t, err, "ALLOWED_ORIGINS")
	require.ErrorContains(t, err, `"inbox"`)
	require.ErrorContains(t, err, `"/a/b"`)
	require.NotContains(t, err.Error(), `"/inbox"`)
}
