package outbox

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
)

// Backlog is the events of a topic that are not published yet.
type Backlog struct {
	Topic  string
	Events int64
	Oldest time.Duration // age of the oldest one, by the database's clock
}

// Status is the state of an outbox.
type Status struct {
	Leader string // application and address of the relay that publishes; empty if none does
	Topics []Backlog
}

// Oldest returns the age of the oldest event that is not published.
func (s Status) Oldest() (oldest time.Duration) {
	for _, t := range s.Topics {
		oldest = max(oldest, t.Oldest)
	}
	return oldest
}

// Status reads the state from the database. It works while the service runs, and while it does not.
func (o *Outbox) Status(ctx context.Context) (s Status, err error) {
	if s.Leader, err = o.db.Leader(ctx, "outbox"); err != nil {
		return s, err
	}
	rows, err := o.db.Conn(ctx).Query(ctx, `select topic, count(*), clock_timestamp() - min(created_at) from outbox group by topic order by topic`)
	if err != nil {
		return s, fmt.Errorf("read the outbox: %w", err)
	}
	s.Topics, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Backlog])
	return s, err
}

// Write writes the state as a table, with the name of the service in each line.
func (s Status) Write(w io.Writer, service string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	leader := s.Leader
	if leader == "" {
		leader = "nobody: events wait until the service runs"
	}
	_, _ = fmt.Fprintf(table, "%s\tpublished by\t%s\n", service, leader)
	for _, t := range s.Topics {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%d waiting, the oldest for %s\n", service, t.Topic, t.Events, t.Oldest.Round(time.Second))
	}
	if len(s.Topics) == 0 {
		_, _ = fmt.Fprintf(table, "%s\tall topics\tnothing waits\n", service)
	}
	return table.Flush()
}
