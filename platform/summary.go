package platform

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Summary returns the addresses of the platform and which parts are embedded, as text for people.
func (p *Platform) Summary() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s "+format+"\n", append([]any{name}, args...)...)
	}
	base := p.URL()
	line("Console", "%s/", base)
	line("API", "%s", base)
	line("Reference", "%s/docs", base)
	if p.inbox != nil {
		line("Inbox", "%s/inbox", base)
	}
	if p.options.Traces != nil {
		line("Traces", "http://%s/traces", p.options.Traces.Addr())
	}
	for _, name := range append(serviceNames[:len(serviceNames):len(serviceNames)], "gateway") {
		address := p.at.services[name]
		if name == "gateway" {
			address = base
		}
		line(name, "%-24s metrics http://%s/metrics", address, p.admin[name])
	}
	line("Data", "%s", p.options.DataDir)
	b.WriteString("\n")

	e := p.embedded
	part := func(name string, embedded bool, what, real string) {
		if embedded {
			line(name, "embedded: %s", what)
		} else {
			line(name, "real: %s", real)
		}
	}
	part("PostgreSQL", e.postgres, p.postgresDir(), "DATABASE_URL")
	if !p.roles {
		line("", "the services share one database role, because that role may not create others")
	}
	part("Kafka", e.kafka, filepath.Join(p.options.DataDir, "kafka"), "KAFKA_BROKERS")
	part("Speech", e.transcribe, "PocketSphinx, demo quality: set OPENAI_API_KEY for the real thing", "OPENAI_… or TRANSCRIBE_…")
	part("Insights", e.chat, "extractive, demo quality: set OPENAI_API_KEY for the real thing", "OPENAI_… or CHAT_…")
	part("Recordings", e.storage, p.at.recordings, "STORAGE_URL")
	part("Webhooks", e.webhooks, "inbox page: set PABBLY_WEBHOOK_URL and PABBLY_WEBHOOK_SECRET for Pabbly", "PABBLY_WEBHOOK_URL")
	part("SECRET_KEY", e.secret, p.secretsFile(), "SECRET_KEY")
	return b.String()
}
