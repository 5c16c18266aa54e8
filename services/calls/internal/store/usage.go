package store

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// usages implements call.Usages on the table usage_days.
type usages struct{ db *pg.DB }

// Usages returns the store of what was used.
func Usages(db *pg.DB) call.Usages { return usages{db} }

// maxUsageRows is how many agents and models a report has at most, those with the highest cost.
const maxUsageRows = 1000

// List reads all sums in one statement.
func (s usages) List(ctx context.Context, from time.Time) (report call.UsageReport, err error) {
	report = call.UsageReport{ByDay: []call.UsageOfDay{}, ByAgent: []call.UsageOfAgent{}, ByModel: []call.UsageOfModel{}}
	rows, err := s.db.Conn(ctx).Query(ctx, `
		select day::text, agent_id::text, model, coalesce(sum(requests), 0)::bigint, coalesce(sum(audio_seconds), 0) / 60,
			coalesce(sum(input_tokens), 0)::bigint, coalesce(sum(output_tokens), 0)::bigint, coalesce(sum(cost_usd), 0) as cost
		from usage_days where day >= ($1::timestamptz at time zone 'UTC')::date
		group by grouping sets ((), (day), (agent_id), (model)) order by day, cost desc, agent_id, model`, from)
	if err != nil {
		return report, fmt.Errorf("read the usage: %w", pg.Classify(err))
	}
	defer rows.Close()
	for rows.Next() {
		var day, agent, model *string
		var u call.Used
		if err := rows.Scan(&day, &agent, &model, &u.Requests, &u.Minutes, &u.InputTokens, &u.OutputTokens, &u.CostUSD); err != nil {
			return report, fmt.Errorf("read the usage: %w", err)
		}
		switch {
		case day != nil:
			report.ByDay = append(report.ByDay, call.UsageOfDay{Day: *day, Used: u})
		case agent != nil && len(report.ByAgent) < maxUsageRows:
			report.ByAgent = append(report.ByAgent, call.UsageOfAgent{AgentID: *agent, Used: u})
		case model != nil && len(report.ByModel) < maxUsageRows:
			report.ByModel = append(report.ByModel, call.UsageOfModel{Model: *model, Used: u})
		case agent == nil && model == nil:
			report.Total = u
		}
	}
	if err := rows.Err(); err != nil {
		return report, fmt.Errorf("read the usage: %w", pg.Classify(err))
	}
	return report, nil
}

// Spent sums up the costs.
func (s usages) Spent(ctx context.Context, from time.Time) (usd float64, err error) {
	err = s.db.Conn(ctx).QueryRow(ctx, `select coalesce(sum(cost_usd), 0) from usage_days where day >= ($1::timestamptz at time zone 'UTC')::date`, from).Scan(&usd)
	if err != nil {
		return 0, fmt.Errorf("read what was spent: %w", pg.Classify(err))
	}
	return usd, nil
}
