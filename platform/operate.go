package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/doctor"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/platform/internal/broker"
	"github.com/convoflow/convoflow/platform/internal/database"
	"github.com/convoflow/convoflow/services/auth"
	"github.com/convoflow/convoflow/services/calls"
	"github.com/convoflow/convoflow/services/crm"
	"github.com/convoflow/convoflow/services/notify"
)

// unit is a service with what commands need of it.
type unit struct {
	contract service.Contract
	settings service.Settings
}

// units returns the services with tables.
func (s *settings) units() []unit {
	return []unit{
		{auth.Contract(), s.auth}, {calls.Contract(), s.calls}, {crm.Contract(), s.crm}, {notify.Contract(), s.notify},
	}
}

// Doctor checks everything that the platform in o.DataDir depends on. url is that of its API. For invalid settings the error is a
// *conf.Error, which lists all problems.
func Doctor(ctx context.Context, o Options, url string) (*doctor.Report, error) {
	p, s, err := beside(ctx, o, serviceNames...)
	if err != nil {
		return nil, err
	}
	defer p.group.Close()
	r := &doctor.Report{Clock: clock.System{}}
	r.OK("settings", "convoflow %s, valid; the admin ports that `up` printed show them at /config", run.Version())
	r.CheckHTTP(ctx, "convoflow", url+"/ready", 200)
	running := true
	if p.embedded.kafka {
		if err := p.useBroker(); err != nil {
			running = false
			r.Fail("kafka", "start it: convoflow up --data-dir "+p.options.DataDir, "the embedded broker does not run")
		} else if s, err = load(p.options.Environ, p.embedded, p.at); err != nil {
			return nil, err
		}
	}
	// The services of one process have no fixed addresses: their keys are those of this database.
	s.calls.Access, s.crm.Access, s.notify.Access = nil, nil, nil
	for _, u := range s.units() {
		found := &doctor.Report{Clock: r.Clock}
		service.ExamineDatabase(ctx, found, u.contract, u.settings, p.tel)
		if running {
			found.CheckKafka(ctx, u.contract.Name, u.contract.Topics, u.settings.Shared().Kafka)
		}
		for _, f := range found.Findings {
			f.Part = u.contract.Name + " " + f.Part
			r.Findings = append(r.Findings, f)
		}
	}
	s.auth.ExamineSecret(ctx, r)
	s.calls.ExamineFiles(ctx, r)
	if p.embedded.transcribe || p.embedded.chat {
		r.Warn("AI", "set OPENAI_API_KEY for the real thing", "embedded, of demo quality")
	} else {
		s.calls.ExamineProviders(ctx, r)
	}
	if p.embedded.webhooks {
		r.Warn("webhooks", "set PABBLY_WEBHOOK_URL and PABBLY_WEBHOOK_SECRET, or create endpoints with the API", "they go to the inbox page only, unless an endpoint was created")
	}
	return r, nil
}

// useBroker sets the address of the embedded broker, which must be running.
func (p *Platform) useBroker() error {
	address, password, err := runningBroker(p.options.DataDir)
	p.at.brokers, p.at.brokerSecret = address, password
	return err
}

// OutboxStatus writes the state of the outboxes of all services.
func OutboxStatus(ctx context.Context, o Options, stdout io.Writer) error {
	p, s, err := beside(ctx, o, serviceNames...)
	if err != nil {
		return err
	}
	defer p.group.Close()
	for _, u := range s.units() {
		if err := service.OutboxStatus(ctx, u.contract.Name, u.settings, p.tel, stdout); err != nil {
			return err
		}
	}
	return nil
}

// Usage writes what the team has used: of the AI providers in the last days, and of the disk.
func Usage(ctx context.Context, o Options, days int, stdout io.Writer) error {
	p, s, err := beside(ctx, o, serviceNames...)
	if err != nil {
		return err
	}
	defer p.group.Close()
	if err := calls.Usage(ctx, s.calls, p.tel, days, stdout); err != nil {
		return err
	}
	url, err := p.adminURL(ctx)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, `
		select n.nspname, c.relname, greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = any ($1) and c.relkind = 'r' and pg_total_relation_size(c.oid) >= 1 << 20 order by n.nspname, pg_total_relation_size(c.oid) desc`, serviceNames)
	if err != nil {
		return fmt.Errorf("read the sizes of the tables: %w", err)
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\nTABLES FROM 1 MB ON\tROWS, ABOUT\tMB")
	var schema, name string
	var count, bytes int64
	if _, err := pgx.ForEachRow(rows, []any{&schema, &name, &count, &bytes}, func() error {
		_, err := fmt.Fprintf(table, "%s.%s\t%d\t%d\n", schema, name, count, bytes>>20)
		return err
	}); err != nil {
		return fmt.Errorf("read the sizes of the tables: %w", err)
	}
	return table.Flush()
}

// adminURL returns the URL of the database for its administrator. The database must be running.
func (p *Platform) adminURL(ctx context.Context) (string, error) {
	if !p.embedded.postgres {
		return value(p.options.Environ, "DATABASE_URL"), nil
	}
	url, running, err := database.Running(ctx, p.postgresDir(), databaseName)
	if err == nil && !running {
		err = errors.New("the embedded PostgreSQL does not run")
	}
	return url, err
}

// ErrRunning means that a command needs the platform to be stopped.
var ErrRunning = errors.New("the platform is running")

// Rewind makes services read again what was published since a time (bus.Rewind). The services must be stopped. It starts the embedded
// broker for as long as it takes.
func Rewind(ctx context.Context, o Options, services []string, since time.Time, dryRun bool) (map[string][]bus.Rewound, error) {
	kafka, closeKafka, err := stoppedKafka(ctx, o)
	if err != nil {
		return nil, err
	}
	defer closeKafka()
	rewound := map[string][]bus.Rewound{}
	for _, name := range services {
		if rewound[name], err = kafka.Rewind(ctx, name, since, dryRun); err != nil {
			return rewound, fmt.Errorf("%s: %w", name, err)
		}
	}
	return rewound, nil
}

// stoppedKafka connects to the Kafka of the settings, or to the embedded broker of a platform that is stopped.
func stoppedKafka(ctx context.Context, o Options) (*bus.Kafka, func(), error) {
	if value(o.Environ, "KAFKA_BROKERS") != "" {
		kafka, err := Kafka(o)
		if err != nil {
			return nil, nil, err
		}
		return kafka, kafka.Close, nil
	}
	p, err := prepare(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	stored, err := readSecrets(p.secretsFile())
	if err != nil {
		return nil, nil, errors.Join(ErrNeverStarted, err)
	}
	b, err := broker.Start(ctx, broker.Options{Dir: filepath.Join(p.options.DataDir, "kafka"), Password: stored.BrokerPassword, Log: p.tel.Log})
	if err != nil {
		return nil, nil, fmt.Errorf("%w, or its broker does not start: %w", ErrRunning, err)
	}
	stop := func() {
		if err := b.Close(context.WithoutCancel(ctx)); err != nil {
			p.tel.Log.WarnContext(ctx, "the broker did not stop cleanly", "error", err)
		}
	}
	p.at.brokers, p.at.brokerSecret = b.Addr(), stored.BrokerPassword
	s, err := load(p.options.Environ, p.embedded, p.at)
	if err != nil {
		stop()
		return nil, nil, err
	}
	kafka, err := bus.Connect(s.crm.Kafka, "operator", events.Topics())
	if err != nil {
		stop()
		return nil, nil, err
	}
	return kafka, func() { kafka.Close(); stop() }, nil
}
