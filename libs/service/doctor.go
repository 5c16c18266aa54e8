package service

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/doctor"
	"github.com/convoflow/convoflow/libs/idempotency"
	"github.com/convoflow/convoflow/libs/inbox"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// The thresholds of doctor.
const (
	checkTimeout = 10 * time.Second // of one dependency
	maxUnsent    = 30 * time.Second // of the oldest event of the outbox
	maxOpen      = 5 * time.Minute  // of a transaction
	oldest       = 140000           // PostgreSQL, as server_version_num
)

// Commands are the commands that all services have. check examines what only this service depends on; it may be nil.
func Commands(contract Contract, cfg Settings, check func(context.Context, *doctor.Report), stdout io.Writer) []run.Command {
	return append(deadLetterCommands(contract, cfg, stdout), []run.Command{
		{Name: "doctor", Help: "check the settings and every dependency, and say what is wrong and what to do; exit 1 if something does not work",
			Run: func(ctx context.Context, tel telemetry.Set, _ []string) error {
				r := &doctor.Report{Clock: cfg.Shared().Clock}
				Examine(ctx, r, contract, cfg, tel)
				if check != nil {
					check(ctx, r)
				}
				return r.Write(stdout)
			}},
		// For an init container that runs before the first new replica.
		{Name: "migrate", Help: "migrate the tables to the newest version and exit",
			Run: func(ctx context.Context, tel telemetry.Set, _ []string) error {
				base, err := OpenDatabase(ctx, contract, cfg, tel)
				if err == nil {
					base.Close()
				}
				return err
			}},
		{Name: "outbox status", Help: "show the events that are not published yet, and which replica publishes",
			Run: func(ctx context.Context, tel telemetry.Set, _ []string) error {
				return OutboxStatus(ctx, contract.Name, cfg, tel, stdout)
			}},
	}...)
}

// OutboxStatus writes the state of a service's outbox. It migrates nothing.
func OutboxStatus(ctx context.Context, name string, cfg Settings, tel telemetry.Set, stdout io.Writer) error {
	db, err := pg.Open(ctx, cfg.Shared().Database, name, tel)
	if err != nil {
		return err
	}
	defer db.Close()
	status, err := outbox.New(db, tel).Status(ctx)
	if err != nil {
		return err
	}
	return status.Write(stdout, name)
}

// Examine checks what all services depend on. It changes nothing. The settings are valid: otherwise nothing runs at all.
func Examine(ctx context.Context, r *doctor.Report, contract Contract, cfg Settings, tel telemetry.Set) {
	r.OK("settings", "%s %s, valid; `%s config` prints them", contract.Name, tel.Version, contract.Name)
	shared := cfg.Shared()
	ExamineDatabase(ctx, r, contract, cfg, tel)
	r.CheckKafka(ctx, contract.Name, contract.Topics, shared.Kafka)
	if shared.Access != nil {
		r.CheckHTTP(ctx, "auth", shared.Access.AuthURL+"/.well-known/jwks.json", http.StatusOK)
	}
}

// Migrations returns the migrations of all tables of a service.
func Migrations(contract Contract) []pg.Migrations {
	return []pg.Migrations{outbox.Migrations(), inbox.Migrations(), idempotency.Migrations(), job.Migrations(), contract.Migrations}
}

// ExamineDatabase checks the database of a service: its state, the migrations and the outbox.
func ExamineDatabase(ctx context.Context, r *doctor.Report, contract Contract, settings Settings, tel telemetry.Set) {
	name, cfg := contract.Name, settings.Shared()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	db, err := pg.Open(ctx, cfg.Database, name, tel)
	if err != nil {
		r.Fail("database", "check DATABASE_URL, the role's password, and that PostgreSQL accepts connections from here", "%v", err)
		return
	}
	defer db.Close()
	state, err := db.Inspect(ctx)
	if err != nil {
		r.Fail("database", "the role needs its own schema: create schema "+name+" authorization <role>", "%v", err)
		return
	}
	r.OK("database", "PostgreSQL %s, %d of %d connections in use", state.Version, state.Connections, state.MaxConnections)
	if state.VersionNumber < oldest {
		r.Fail("database version", "upgrade to PostgreSQL 14 or newer", "PostgreSQL %s is too old", state.Version)
	}
	if state.Connections*10 > state.MaxConnections*9 {
		r.Warn("connections", "raise max_connections, lower DATABASE_MAX_CONNS, or put PgBouncer in session mode before it", "%d of %d are in use", state.Connections, state.MaxConnections)
	}
	if skew := state.Now.Sub(r.Clock.Now()); skew.Abs() > doctor.MaxSkew {
		r.Warn("clock", "synchronize both with NTP", "the database's clock differs from this machine's by %s", skew.Round(time.Second))
	} else {
		r.OK("clock", "the database's differs by %s", skew.Round(time.Millisecond).Abs())
	}
	if state.OldestTransaction > maxOpen {
		r.Warn("transactions", "find it in pg_stat_activity: it stops vacuum and every build of an index", "one has been open for %s", state.OldestTransaction.Round(time.Second))
	}
	for _, index := range state.InvalidIndexes {
		r.Warn("index", "the next migration builds it again; or: drop index concurrently "+index, "%s is invalid, its build was interrupted", index)
	}
	pending, unknown, err := db.Pending(ctx, Migrations(contract)...)
	switch {
	case err != nil:
		r.Fail("migrations", "the role must own its schema", "%v", err)
	case len(pending) > 0:
		r.Fail("migrations", "run `"+name+" migrate`, or start the service, which does the same", "%d are pending: %s", len(pending), strings.Join(pending, ", "))
	case len(unknown) > 0:
		r.Warn("migrations", "as long as an upgrade or rollback lasts this is normal", "a newer version of %s has migrated the tables: %s", name, strings.Join(unknown, ", "))
	default:
		r.OK("migrations", "all applied")
	}
	if err == nil && !slices.ContainsFunc(pending, func(m string) bool { return strings.HasPrefix(m, "outbox/") }) {
		examineOutbox(ctx, r, outbox.New(db, tel))
	}
}

func examineOutbox(ctx context.Context, r *doctor.Report, box *outbox.Outbox) {
	status, err := box.Status(ctx)
	switch {
	case err != nil:
		r.Fail("outbox", "the role must own its schema", "%v", err)
	case status.Oldest() > maxUnsent:
		r.Fail("outbox", "see Kafka below; with `outbox status` the topics that wait", "the oldest event has waited for %s", status.Oldest().Round(time.Second))
	case status.Leader == "":
		r.Warn("outbox", "start the service", "no replica publishes events")
	default:
		r.OK("outbox", "published by %s", status.Leader)
	}
}
