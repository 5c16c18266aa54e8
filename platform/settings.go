package platform

import (
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/convoflow/convoflow/gateway"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/platform/internal/broker"
	"github.com/convoflow/convoflow/services/auth"
	"github.com/convoflow/convoflow/services/calls"
	"github.com/convoflow/convoflow/services/crm"
	"github.com/convoflow/convoflow/services/notify"
)

// settings are the configurations of the five services, read from one environment.
type settings struct {
	auth    auth.Config
	calls   calls.Config
	crm     crm.Config
	notify  notify.Config
	gateway gateway.Config
}

// embedded says which parts are embedded because the environment does not configure them.
type embedded struct {
	postgres, kafka, transcribe, chat, storage, webhooks, secret bool
}

func embeddedParts(environ []string) embedded {
	set := func(names ...string) bool { return isSet(environ, names...) }
	return embedded{
		postgres:   !set("DATABASE_URL"),
		kafka:      !set("KAFKA_BROKERS"),
		transcribe: !set("OPENAI_API_KEY", "OPENAI_BASE_URL", "TRANSCRIBE_API_KEY", "TRANSCRIBE_BASE_URL"),
		chat:       !set("OPENAI_API_KEY", "OPENAI_BASE_URL", "CHAT_API_KEY", "CHAT_BASE_URL"),
		storage:    !set("STORAGE_URL"),
		webhooks:   !set("PABBLY_WEBHOOK_URL"),
		secret:     !set("SECRET_KEY"),
	}
}

// ExternalStores returns the settings in environ that configure a store outside the platform. Data written there remains when the
// data directory is removed.
func ExternalStores(environ []string) []string {
	return slices.DeleteFunc([]string{"DATABASE_URL", "KAFKA_BROKERS", "STORAGE_URL"}, func(name string) bool { return !isSet(environ, name) })
}

// isSet reports whether the environment sets one of the names, directly or as a _FILE.
func isSet(environ []string, names ...string) bool {
	return slices.ContainsFunc(environ, func(pair string) bool {
		name, value, _ := strings.Cut(pair, "=")
		return value != "" && slices.Contains(names, strings.TrimSuffix(name, "_FILE"))
	})
}

// addresses are the addresses of the parts of a platform. Before the parts run, they are valid placeholders.
type addresses struct {
	databases     map[string]string // by service
	brokers       string
	brokerSecret  string
	offline       string
	hook          string
	hookSecret    string
	secretKey     string
	services      map[string]string // base URLs
	recordings    string            // a directory
	temporary     string            // a directory
	publicAddress string
}

// placeholders returns addresses with which all settings can be validated before anything is started.
func placeholders(dataDir, listen string) addresses {
	const placeholder = "127.0.0.1:1"
	a := addresses{databases: map[string]string{}, services: map[string]string{}, brokers: placeholder, brokerSecret: "not-used-yet", offline: "http://" + placeholder + "/v1",
		hook: "http://" + placeholder + "/", hookSecret: "not-used-yet", secretKey: conf.NewSecret(), recordings: filepath.Join(dataDir, "recordings"), temporary: filepath.Join(dataDir, "tmp"), publicAddress: listen}
	for _, service := range serviceNames {
		a.databases[service] = "postgres://" + placeholder + "/convoflow"
		a.services[service] = "http://" + placeholder
	}
	return a
}

// environment returns the environment for one service: that of the process, plus the addresses of the embedded parts.
func environment(environ []string, e embedded, a addresses, service string) []string {
	values := map[string]string{}
	for name, address := range a.services {
		values[strings.ToUpper(name)+"_URL"] = address
	}
	if url, ok := a.databases[service]; ok {
		values["DATABASE_URL"], values["DATABASE_URL_FILE"] = url, ""
	}
	if e.kafka {
		values["KAFKA_BROKERS"], values["KAFKA_TLS"] = a.brokers, "false"
		values["KAFKA_SASL_MECHANISM"], values["KAFKA_SASL_USER"] = broker.Mechanism, broker.User
		values["KAFKA_SASL_PASSWORD"], values["KAFKA_SASL_PASSWORD_FILE"] = a.brokerSecret, ""
	}
	if e.secret {
		values["SECRET_KEY"] = a.secretKey
	}
	if e.storage {
		values["STORAGE_URL"] = "file://" + filepath.ToSlash(a.recordings)
	}
	if !isSet(environ, "AUDIO_TEMP_DIR") {
		values["AUDIO_TEMP_DIR"] = a.temporary // the system's directory would be shared with other users' platforms
	}
	if e.transcribe {
		values["TRANSCRIBE_BASE_URL"], values["TRANSCRIBE_API_KEY"], values["TRANSCRIBE_MODEL"] = a.offline, "offline", "offline-pocketsphinx"
	}
	if e.chat {
		values["CHAT_BASE_URL"], values["CHAT_API_KEY"], values["CHAT_MODEL"] = a.offline, "offline", "offline-extractive"
	}
	if e.webhooks {
		values["PABBLY_WEBHOOK_URL"], values["PABBLY_WEBHOOK_SECRET"], values["PABBLY_WEBHOOK_SECRET_FILE"] = a.hook, a.hookSecret, ""
		values["WEBHOOK_ALLOW_PRIVATE_CIDRS"] = withLoopback(environ)
	}
	if host, port, err := net.SplitHostPort(a.publicAddress); err == nil && !slices.ContainsFunc(environ, func(pair string) bool { return strings.HasPrefix(pair, "PUBLIC_URL") }) {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		values["PUBLIC_URL"] = "http://" + net.JoinHostPort(host, port)
	}
	out := slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		_, replaced := values[name]
		return replaced
	})
	for name, value := range values {
		out = append(out, name+"="+value)
	}
	return out
}

// withLoopback returns WEBHOOK_ALLOW_PRIVATE_CIDRS with the address of the embedded inbox added.
func withLoopback(environ []string) string {
	const loopback = "127.0.0.1/32"
	for _, pair := range environ {
		if allowed, ok := strings.CutPrefix(pair, "WEBHOOK_ALLOW_PRIVATE_CIDRS="); ok && allowed != "" {
			return allowed + "," + loopback
		}
	}
	return loopback
}

// load reads the configuration of all services. The error is a *conf.Error with the problems of all of them.
func load(environ []string, e embedded, a addresses) (s settings, err error) {
	var problems []string
	s.auth = one(auth.Defaults(), environment(environ, e, a, "auth"), &problems)
	s.calls = one(calls.Defaults(), environment(environ, e, a, "calls"), &problems)
	s.crm = one(crm.Defaults(), environment(environ, e, a, "crm"), &problems)
	s.notify = one(notify.Defaults(), environment(environ, e, a, "notify"), &problems)
	s.gateway = one(gateway.Defaults(), environment(environ, e, a, "gateway"), &problems)
	if len(problems) > 0 {
		slices.Sort(problems)
		return s, &conf.Error{Problems: slices.Compact(problems)}
	}
	return s, nil
}

func one[T conf.Checker](defaults T, environ []string, problems *[]string) T {
	cfg, err := conf.Load(defaults, environ)
	var wrong *conf.Error
	if errors.As(err, &wrong) {
		*problems = append(*problems, wrong.Problems...)
	}
	return cfg
}
