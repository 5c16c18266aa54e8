package demo

import (
	"context"
	"fmt"
)

// dashboard is the part of the analytics overview that the demo shows.
type dashboard struct {
	Leads    int            `json:"total_leads"`
	ByStatus map[string]int `json:"leads_by_status"`
	ByIntent map[string]int `json:"leads_by_intent"`
	Agents   []struct {
		Calls int `json:"calls_made"`
	} `json:"agent_stats"` // of scope=me one, or none before crm knows the agent
}

func (b dashboard) calls() (n int) {
	for _, a := range b.Agents {
		n += a.Calls
	}
	return n
}

// count is one number of the dashboard.
type count struct {
	name          string
	before, after int
}

// counts are what the lead and the call change from before to after.
func (d *demo) counts(after dashboard) []count {
	status, intent := d.lead.Status, d.lead.IntentCategory
	return []count{
		{"leads", d.before.Leads, after.Leads},
		{"status " + status, d.before.ByStatus[status], after.ByStatus[status]},
		{"intent " + intent, d.before.ByIntent[intent], after.ByIntent[intent]},
		{"calls", d.before.calls(), after.calls()},
	}
}

func (d *demo) dashboard(ctx context.Context) (b dashboard, err error) {
	return b, d.api.get(ctx, "/analytics/overview?scope=me", &b)
}

// openDashboard shows the agent's own counts at first.
func (d *demo) openDashboard(ctx context.Context) (err error) {
	d.before, err = d.dashboard(ctx)
	d.say("  %d leads, %d calls\n", d.before.Leads, d.before.calls())
	return err
}

// reopenDashboard waits until each count is greater, and shows them. On a platform with other leads the agent may have got one of
// them too.
func (d *demo) reopenDashboard(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leadTimeout)
	defer cancel()
	for {
		after, err := d.dashboard(ctx)
		if err != nil {
			return err
		}
		all, counted := d.counts(after), true
		for _, c := range all {
			counted = counted && c.after > c.before
		}
		if counted {
			for _, c := range all {
				d.say("  %-20s %d → %d\n", c.name, c.before, c.after)
			}
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("a count is no greater than before, of %v: %w", all, err)
		}
	}
}
