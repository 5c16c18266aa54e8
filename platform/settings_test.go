package platform

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/platform/internal/broker"
)

func TestEverythingIsEmbeddedByDefault(t *testing.T) {
	t.Parallel()
	e := embeddedParts(nil)
	require.Equal(t, embedded{postgres: true, kafka: true, transcribe: true, chat: true, storage: true, webhooks: true, secret: true}, e)
	_, err := load(nil, e, placeholders(t.TempDir(), "127.0.0.1:8000"))
	require.NoError(t, err)
}

func TestASettingReplacesOnlyItsEmbeddedPart(t *testing.T) {
	t.Parallel()
	all := embedded{postgres: true, kafka: true, transcribe: true, chat: true, storage: true, webhooks: true, secret: true}
	for setting, replace := range map[string]func(*embedded){
		"DATABASE_URL=postgres://x/y":     func(e *embedded) { e.postgres = false },
		"DATABASE_URL_FILE=/run/url":      func(e *embedded) { e.postgres = false },
		"KAFKA_BROKERS=k:9092":            func(e *embedded) { e.kafka = false },
		"OPENAI_API_KEY=sk":               func(e *embedded) { e.transcribe, e.chat = false, false },
		"CHAT_BASE_URL=http://x":          func(e *embedded) { e.chat = false },
		"TRANSCRIBE_API_KEY_FILE=/run/k":  func(e *embedded) { e.transcribe = false },
		"STORAGE_URL=s3://b":              func(e *embedded) { e.storage = false },
		"PABBLY_WEBHOOK_URL=https://p":    func(e *embedded) { e.webhooks = false },
		"SECRET_KEY=" + conf.NewSecret():  func(e *embedded) { e.secret = false },
		"DATABASE_URL=":                   func(*embedded) {},
		"PABBLY_WEBHOOK_URL_OF_OTHERS=no": func(*embedded) {},
	} {
		want := all
		replace(&want)
		require.Equal(t, want, embeddedParts([]string{setting}), setting)
	}
}

func TestEveryInvalidSettingOfEveryServiceIsListed(t *testing.T) {
	t.Parallel()
	environ := []string{"SECRET_KEY=short", "MAX_AUDIO_SIZE_MB=many", "KAFKA_BROKERS=nowhere", "DEFAULT_COUNTRY=Atlantis", "ALLOWED_ORIGINS=*", "PABBLY_WEBHOOK_URL=https://pabbly.example/x"}
	_, err := load(environ, embeddedParts(environ), placeholders(t.TempDir(), "127.0.0.1:8000"))
	var wrong *conf.Error
	require.ErrorAs(t, err, &wrong)
	for _, name := range []string{"SECRET_KEY", "MAX_AUDIO_SIZE_MB", "KAFKA_BROKERS", "DEFAULT_COUNTRY", "ALLOWED_ORIGINS", "PABBLY_WEBHOOK_SECRET"} {
		require.True(t, slices.ContainsFunc(wrong.Problems, func(p string) bool { return strings.Contains(p, name) }), "%s in %v", name, wrong.Problems)
	}
	require.True(t, slices.IsSorted(wrong.Problems))
}

func TestEachServiceHasItsOwnDatabaseURL(t *testing.T) {
	t.Parallel()
	a := placeholders(t.TempDir(), "0.0.0.0:8000")
	a.databases["crm"] = "postgres://crm@db/convoflow"
	environ := []string{"DATABASE_URL=postgres://admin@db/convoflow", "WEBHOOK_ALLOW_PRIVATE_CIDRS=10.0.0.0/8", "LOG_LEVEL=DEBUG"}
	got := environment(environ, embeddedParts(environ), a, "crm")
	require.Contains(t, got, "DATABASE_URL=postgres://crm@db/convoflow")
	require.NotContains(t, got, "DATABASE_URL=postgres://admin@db/convoflow")
	require.Contains(t, got, "LOG_LEVEL=DEBUG")
	require.Contains(t, got, "AUDIO_TEMP_DIR="+a.temporary, "the system's directory would be shared with other users' platforms")
	require.Contains(t, environment([]string{"AUDIO_TEMP_DIR=/mine"}, embedded{}, a, "calls"), "AUDIO_TEMP_DIR=/mine")
	require.Contains(t, got, "WEBHOOK_ALLOW_PRIVATE_CIDRS=10.0.0.0/8,127.0.0.1/32")
	require.Contains(t, got, "PUBLIC_URL=http://127.0.0.1:8000", "0.0.0.0 is not a destination address")
	require.NotContains(t, environment(environ, embeddedParts(environ), a, "gateway"), "DATABASE_URL=postgres://crm@db/convoflow")
}

// Settings for a real Kafka have no effect on the embedded one.
func TestTheServicesAuthenticateAtTheEmbeddedBroker(t *testing.T) {
	t.Parallel()
	a := placeholders(t.TempDir(), "127.0.0.1:8000")
	a.brokers, a.brokerSecret = "127.0.0.1:9", "password"
	environ := []string{"KAFKA_SASL_PASSWORD_FILE=/run/secret", "KAFKA_SASL_USER=me", "KAFKA_TLS=true"}
	s, err := load(environ, embeddedParts(environ), a)
	require.NoError(t, err)
	for service, kafka := range map[string]bus.Config{"auth": s.auth.Kafka, "calls": s.calls.Kafka, "crm": s.crm.Kafka, "notify": s.notify.Kafka, "gateway": s.gateway.Kafka} {
		require.Equal(t, []any{[]string{"127.0.0.1:9"}, "scram-sha-256", broker.User, "password", false},
			[]any{kafka.Brokers, kafka.Mechanism, kafka.User, kafka.Password.Reveal(), kafka.TLS}, service)
	}
	environ = append(environ, "KAFKA_BROKERS=kafka:9092", "KAFKA_SASL_PASSWORD=mine", "KAFKA_SASL_PASSWORD_FILE=")
	require.NotContains(t, environment(environ, embeddedParts(environ), a, "crm"), "KAFKA_SASL_USER="+broker.User)
}

func TestSecretsAreCreatedOnceAndNeverReplaced(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secrets.json")
	created, err := openSecrets(file)
	require.NoError(t, err)
	require.Empty(t, conf.CheckSecret("SECRET_KEY", conf.Secret(created.SecretKey)))
	again, err := openSecrets(file)
	require.NoError(t, err)
	require.Equal(t, created, again)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	require.NoError(t, os.WriteFile(file, []byte(`{"secret_key":"x","inbox_token":"y","inbox_secret":"z"}`), 0o600))
	added, err := openSecrets(file)
	require.NoError(t, err, "the file of an earlier version")
	require.Equal(t, []string{"x", "y", "z"}, []string{added.SecretKey, added.InboxToken, added.InboxSecret})
	require.NotEqual(t, added.InboxReader, added.BrokerPassword)
	require.Empty(t, conf.CheckSecret("SECRET_KEY", conf.Secret(added.BrokerPassword)))
	again, err = openSecrets(file)
	require.NoError(t, err)
	require.Equal(t, added, again)

	require.NoError(t, os.WriteFile(file, []byte(`{"secret_key":"x"`), 0o600))
	_, err = openSecrets(file)
	require.ErrorContains(t, err, "restore it from a backup")
}
