package store

import (
	"context"
	"fmt"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// erasures implements delivery.Erasures on the tables deliveries and attempts.
type erasures struct {
	db  *pg.DB
	out *outbox.Outbox
}

// Erasures returns what erases people from deliveries.
func Erasures(db *pg.DB, out *outbox.Outbox) delivery.Erasures { return erasures{db, out} }

// Create publishes a confirmation.
func (s erasures) Create(ctx context.Context, confirmation event.Event) error {
	return s.out.Append(ctx, confirmation)
}

// blanked are the statements that erase a person from its deliveries, by kind. A worker that is just sending one finds that its lease
// has ended, and cannot record the answer.
var blanked = map[string][]string{
	events.KindClient: person("client_id = any(array(" + merged + ")) and event not like 'lead.%'"), // the events of a lead are about the lead
	events.KindLead:   person("lead_id = $1"),
	events.KindAgent: {
		`update attempts set answer = '' where delivery_id in (select id from deliveries where agent_id = $1)`,
		// The epoch makes a new ETag. That of a delivery that is being sent rises when it has been.
		`update deliveries set body = null, lease_epoch = lease_epoch + case when lease_holder is null then 1 else 0 end where agent_id = $1 and body is not null`,
	},
}

// merged selects a client and those that were merged into it, one after the other.
const merged = `with recursive same (id) as (select $1::uuid union select c.id from clients c join same on c.merged_into = same.id) select id from same`

func person(about string) []string {
	return []string{
		`update deliveries set ` + stopped + `, data = '{}', body = null, next_attempt_at = null,
			status = case status when 'delivered' then 'delivered' else 'dead' end, reason = case status when 'delivered' then reason else 'erased' end,
			updated_at = now() where ` + about,
		// After the rows above are locked: no attempt is being recorded anymore.
		`update attempts set answer = '' where delivery_id in (select id from deliveries where ` + about + `)`,
	}
}

// Remove blanks the deliveries about a person.
func (s erasures) Remove(ctx context.Context, kind, subjectID string) error {
	return s.db.InTx(ctx, func(ctx context.Context) error {
		for _, statement := range blanked[kind] {
			if _, err := s.db.Conn(ctx).Exec(ctx, statement, subjectID); err != nil {
				return fmt.Errorf("erase %s %s: %w", kind, subjectID, pg.Classify(err))
			}
		}
		return nil
	})
}
