package store

import (
	"context"
	"fmt"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/notify/internal/delivery"
)

// replayable returns the condition for the deliveries d of endpoints e that a replay selects.
func replayable(r delivery.Replay) (w table.Where) {
	w.And("d.status in ('delivered', 'dead') and octet_length(d.data) > 2 and e.deleted_at is null")
	w.And(`not exists (select from deliveries o where o.event_id = d.event_id and o.endpoint_id = d.endpoint_id and o.status in ('pending', 'retrying'))`)
	if r.ID() != nil {
		w.And("d.id = ?", r.ID())
	} else {
		w.And("not exists (select from deliveries o where o.event_id = d.event_id and o.endpoint_id = d.endpoint_id and o.id > d.id)")
	}
	if r.Status != nil {
		w.And(statuses[*r.Status])
	}
	w.If(r.Event != nil, "d.event = ?", r.Event)
	w.If(r.EndpointID != nil, "d.endpoint_id = ?", r.EndpointID)
	w.If(r.From != nil, "d.created_at >= ?", r.From)
	w.If(r.To != nil, "d.created_at < ?", r.To)
	return w
}

// CountReplay counts what Replay would store, up to limit.
func (s *deliveries) CountReplay(ctx context.Context, r delivery.Replay, limit int) (n int, err error) {
	w := replayable(r)
	statement := fmt.Sprintf("select count(*) from (select from deliveries d join endpoints e on e.id = d.endpoint_id%s limit %d) as selected", w, limit)
	if err := s.db.Conn(ctx).QueryRow(ctx, statement, w.Args()...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count what a replay selects: %w", pg.Classify(err))
	}
	return n, nil
}

// Replay stores a new delivery for each that a replay selects, due one microsecond after the other in the order of their age.
func (s *deliveries) Replay(ctx context.Context, r delivery.Replay, replayID string, limit int) (int, error) {
	w := replayable(r)
	id := w.Bind(replayID)
	tag, err := s.db.Conn(ctx).Exec(ctx, fmt.Sprintf(`
		insert into deliveries (id, endpoint_id, event, event_id, event_time, call_id, agent_id, client_id, lead_id, followup_id, data, body, incomplete,
			status, attempts, failures, next_attempt_at, lease_epoch, trace, created_at, updated_at, replay_of, replay_id)
		select delivery_id(clock_timestamp()), endpoint_id, event, event_id, event_time, call_id, agent_id, client_id, lead_id, followup_id, data, body, incomplete,
			'pending', 0, 0, now() + n * interval '1 microsecond', 1, trace, now(), now(), id, %s::uuid
		from (select d.*, row_number() over (order by d.created_at, d.id) as n from deliveries d join endpoints e on e.id = d.endpoint_id%s
			order by d.created_at, d.id limit %d) as selected order by n`, id, w, limit), w.Args()...)
	if err != nil {
		return 0, fmt.Errorf("store the deliveries of a replay: %w", pg.Classify(err))
	}
	return int(tag.RowsAffected()), nil
}
