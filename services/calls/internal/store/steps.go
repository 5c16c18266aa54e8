package store

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/lease"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// steps implements call.Steps on the tables steps and usage_days.
type steps struct{ db *pg.DB }

// Steps returns the store of the requests to providers.
func Steps(db *pg.DB) call.Steps { return steps{db} }

// Begin checks the lease and records the request in one statement.
func (s steps) Begin(ctx context.Context, r call.Step) (answer []byte, repeated bool, err error) {
	var state string
	err = s.db.Conn(ctx).QueryRow(ctx, `
		with held as (select id from calls where id = $1 and lease_epoch = $2 and lease_holder is not null),
		before as (select state from steps where call_id = $1 and run = $3 and step = $4 and part = $5 and input = $6),
		saved as (
			insert into steps as s (call_id, epoch, run, step, part, input, model, state, requests)
			select id, $2, $3, $4, $5, $6, $7, 'requested', 1 from held
			on conflict (call_id, run, step, part, input) do update set
				epoch = case when s.state = 'answered' then s.epoch else excluded.epoch end,
				state = case when s.state = 'answered' then s.state else excluded.state end,
				requests = s.requests + (s.state <> 'answered')::int,
				requested_at = case when s.state = 'answered' then s.requested_at else now() end
			returning state, answer)
		select saved.state, answer, coalesce((select state = 'requested' from before), false) from saved`,
		r.CallID, r.Epoch, r.Run, r.Name, r.Part, r.Input, r.Model).Scan(&state, &answer, &repeated)
	switch {
	case pg.NoRows(err):
		return nil, false, lease.ErrSuperseded
	case err != nil:
		return nil, false, fmt.Errorf("record a request for call %s: %w", r.CallID, pg.Classify(err))
	case state == "answered":
		return answer, false, nil
	}
	return nil, repeated, nil
}

// End stores an answer, also one that comes after the lease was lost: it was paid for. One that is stored already, by a commit whose response
// was lost, is not billed again: a worker sends a request once in an epoch. A call that was deleted meanwhile has only its usage left.
func (s steps) End(ctx context.Context, r call.Step, a call.Answer) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		with stored as (
			select from steps where call_id = $1 and run = $2 and step = $3 and part = $4 and input = $5 and state = 'answered' and epoch = $13),
		saved as (
			update steps set state = 'answered', epoch = $13, answer = case when state = 'answered' then answer else $6 end, model = $7, answered_at = now()
			where call_id = $1 and run = $2 and step = $3 and part = $4 and input = $5 and not exists (select from stored)),
		billed as (
			update calls set cost_usd = coalesce(cost_usd, 0) + $12::double precision
			where id = $1 and $12::double precision is not null and not exists (select from stored))
		insert into usage_days as u (day, agent_id, model, requests, audio_seconds, input_tokens, output_tokens, cost_usd)
		select (now() at time zone 'UTC')::date, $8, $7, 1, $9, $10, $11, coalesce($12, 0) where not exists (select from stored)
		on conflict (day, agent_id, model) do update set requests = u.requests + 1, audio_seconds = u.audio_seconds + excluded.audio_seconds,
			input_tokens = u.input_tokens + excluded.input_tokens, output_tokens = u.output_tokens + excluded.output_tokens,
			cost_usd = u.cost_usd + excluded.cost_usd`,
		r.CallID, r.Run, r.Name, r.Part, r.Input, a.Body, a.Model, r.AgentID, a.Usage.Seconds, a.Usage.InputTokens, a.Usage.OutputTokens, a.Usage.CostUSD, r.Epoch)
	if err != nil {
		return fmt.Errorf("store an answer for call %s: %w", r.CallID, pg.Classify(err))
	}
	return nil
}

// Drop records that a request has no answer that can be used.
func (s steps) Drop(ctx context.Context, r call.Step, state call.StepState) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		update steps set state = $6, answer = null where call_id = $1 and run = $2 and step = $3 and part = $4 and input = $5`,
		r.CallID, r.Run, r.Name, r.Part, r.Input, string(state))
	if err != nil {
		return fmt.Errorf("drop a request of call %s: %w", r.CallID, pg.Classify(err))
	}
	return nil
}

// Forget removes the raw answers of ended calls that were uploaded before a time and are not on legal hold.
func (s steps) Forget(ctx context.Context, before time.Time) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		update steps set answer = null from calls
		where calls.id = call_id and answer is not null and calls.status in ('completed', 'failed') and not legal_hold and created_at < $1`, before)
	if err != nil {
		return fmt.Errorf("remove raw answers: %w", pg.Classify(err))
	}
	return nil
}

// StorePeaks stores the peaks of a call's recording.
func (s steps) StorePeaks(ctx context.Context, callID string, w call.Peaks) error {
	_, err := s.db.Conn(ctx).Exec(ctx, `
		insert into waveforms (call_id, channels, peaks_per_second, peak_ms, peaks) select id, $2, greatest(1, $3::float8)::int, (1000 / $3)::int, $4 from calls where id = $1
		on conflict (call_id) do update set channels = excluded.channels, peaks_per_second = excluded.peaks_per_second, peak_ms = excluded.peak_ms, peaks = excluded.peaks`,
		callID, w.Channels, w.PerSecond, w.Values)
	if err != nil {
		return fmt.Errorf("store the waveform of call %s: %w", callID, pg.Classify(err))
	}
	return nil
}
