package call

import (
	"context"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/fault"
)

// Usages reads what was used of AI providers. It survives the calls.
type Usages interface {
	// List returns the usage from that day on, by day, agent and model.
	List(ctx context.Context, from time.Time) (UsageReport, error)
	// Spent returns what was spent from that day on, in USD, as far as the prices are known.
	Spent(ctx context.Context, from time.Time) (float64, error)
}

// UsageReport is the usage of a number of days.
type UsageReport struct {
	Total   Used           `json:"total"`
	ByDay   []UsageOfDay   `json:"by_day"` // without days that have none
	ByAgent []UsageOfAgent `json:"by_agent"`
	ByModel []UsageOfModel `json:"by_model"`
}

// Used is what was used.
type Used struct {
	Requests     int64   `json:"requests"`
	Minutes      float64 `json:"minutes"` // of audio
	InputTokens  int64   `json:"input_tokens"`
	OutputTokens int64   `json:"output_tokens"`
	CostUSD      float64 `json:"cost_usd"` // of the requests whose price is known
}

// UsageOfDay is what was used on a day of UTC.
type UsageOfDay struct {
	Day string `json:"day"` // 2026-01-02
	Used
}

// UsageOfAgent is what the calls of an agent used.
type UsageOfAgent struct {
	AgentID string `json:"agent_id"`
	Used
}

// UsageOfModel is what was used of a model.
type UsageOfModel struct {
	Model string `json:"model"`
	Used
}

// TeamUsage is a report with the state of the budget.
type TeamUsage struct {
	UsageReport
	MonthCostUSD     float64  `json:"month_cost_usd"`     // of this month of UTC
	MonthlyBudgetUSD *float64 `json:"monthly_budget_usd"` // null without a budget
}

// UsageRequest selects the last days.
type UsageRequest struct {
	Days int `query:"days"`
}

// Budget limits what the team spends in a month. Without a limit nothing is limited.
type Budget struct {
	Usages   Usages
	LimitUSD float64 // 0 is no limit
}

// check fails if the budget of the month is spent.
func (b Budget) check(ctx context.Context, now time.Time) error {
	if b.LimitUSD == 0 {
		return nil
	}
	spent, err := b.Usages.Spent(ctx, monthOf(now))
	if err != nil {
		return err
	}
	if spent >= b.LimitUSD {
		return fault.New(fault.Conflict, CodeBudget, fmt.Sprintf("The budget of this month, %.2f USD, is spent: nothing is transcribed until an admin raises it or the next month begins", b.LimitUSD))
	}
	return nil
}

func monthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// Usage returns what was used in the last days, including today.
func (s *Service) Usage(ctx context.Context, req UsageRequest) (TeamUsage, error) {
	now := s.Clock.Now().UTC()
	report, err := s.Budget.Usages.List(ctx, now.AddDate(0, 0, 1-req.Days))
	if err != nil {
		return TeamUsage{}, err
	}
	u := TeamUsage{UsageReport: report}
	if s.Budget.LimitUSD > 0 {
		u.MonthlyBudgetUSD = &s.Budget.LimitUSD
	}
	u.MonthCostUSD, err = s.Budget.Usages.Spent(ctx, monthOf(now))
	return u, err
}
