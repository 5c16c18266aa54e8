package fault

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
)

// createLead, receiveLead and changeLead are what agents and automations do with leads. A lead is one phone number on the whole
// platform, and a delivery that is repeated is merged into it, without an Idempotency-Key.
func (c *worker) createLead(ctx context.Context) {
	m := mark()
	c.create(ctx, entry{Operation: createLead, Mark: m}, "/leads", "application/json",
		object(map[string]any{"name": m, "phone": leadPhone(), "source_campaign": c.campaign()}), &c.leads)
}

func (c *worker) receiveLead(ctx context.Context) {
	m := mark()
	var others []string // the lead goes to the agent with the fewest, who may be another one
	c.create(ctx, entry{Operation: receiveLead, Mark: m}, "/leads/inbound", "application/json",
		object(map[string]any{"full_name": m, "phone_number": leadPhone(), "campaign_name": c.campaign()}), &others)
}

// changeLead sets the notes, which nothing else does, and sometimes the status, which calls do too.
func (c *worker) changeLead(ctx context.Context) {
	m, id := mark(), c.pick(c.leads)
	fields := map[string]any{"notes": m}
	if c.random.IntN(2) == 0 {
		statuses := []string{"contacted", "in_progress", "qualified", "converted", "lost", "deferred"}
		fields["status"] = statuses[c.random.IntN(len(statuses))]
	}
	e, _ := c.send(ctx, entry{Operation: changeLead, Mark: m, Target: id}, http.MethodPatch, "/leads/"+id, "application/json", object(fields))
	c.ledger.add(e)
}

func (c *worker) campaign() string { return fmt.Sprintf("campaign %d", c.random.IntN(3)) }

// leadPhone returns a phone number that no client of the workload has.
func leadPhone() string { return fmt.Sprintf("+918%09d", number(1_000_000_000)) }

// signature is the X-Pabbly-Signature of a delivery.
func signature(body []byte) string {
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// countRow is a number that analytics has stored, and what counting all leads and calls gives.
type countRow struct {
	Scope, Kind, Key string
	Stored, Counted  int64
}

// counts reads the numbers of analytics in one snapshot, with a statement that has nothing in common with crm's own: the totals by
// kind, and what happened in each quarter of an hour since 1970, of the team and of each agent.
func (o *observer) counts() []countRow {
	return rows[countRow](o, `
		with scopes as (select '00000000-0000-0000-0000-000000000000'::uuid as team),
		leads as (
			select l.*, s.scope from crm.leads l, scopes, lateral (values (team), (l.assigned_agent_id)) as s(scope) where s.scope is not null
		), calls as (
			select c.*, s.scope from crm.calls c, scopes, lateral (values (team), (c.agent_id)) as s(scope) where not c.deleted
		), facts (scope, kind, key, n) as (
			select scope, 'status', status, 1 from leads
			union all select scope, 'intent', intent_category, 1 from leads
			union all select scope, 'campaign', coalesce(source_campaign, ''), 1 from leads
			union all select scope, 'converted', coalesce(source_campaign, ''), 1 from leads where status = 'converted'
			union all select scope, 'open', '', 1 from leads where status not in ('converted', 'lost')
			union all select scope, 'uncontacted', '', 1 from leads where last_contacted_at is null
			union all select scope, 'followups', '', followup_count from leads
			union all select scope, 'calls', '', 1 from calls
			union all select team, 'agent_leads', scope::text, 1 from leads, scopes where scope <> team
			union all select team, 'agent_conversions', scope::text, 1 from leads, scopes where scope <> team and status = 'converted'
			union all select team, 'agent_calls', scope::text, 1 from calls, scopes where scope <> team
			union all select scope, 'at new_leads', floor(extract(epoch from created_at) / 900)::text, 1 from leads
			union all select scope, 'at conversions', floor(extract(epoch from converted_at) / 900)::text, 1 from leads where converted_at is not null
			union all select scope, 'at touched', floor(extract(epoch from coalesce(last_contacted_at, created_at)) / 900)::text, 1 from leads where status not in ('converted', 'lost')
			union all select scope, 'at calls', floor(extract(epoch from called_at) / 900)::text, 1 from calls where called_at is not null
			union all select scope, 'at ' || sentiment, floor(extract(epoch from called_at) / 900)::text, 1 from calls where called_at is not null and sentiment is not null
		), counted as (
			select scope, kind, key, sum(n) as n from facts group by scope, kind, key
		), stored as (
			select scope, kind, key, n from crm.analytics_totals
			union all
			select scope, 'at ' || measure, (96 * day + i - 1)::text, n[i] - coalesce(n[i - 1], 0) from crm.analytics_days, generate_series(1, 96) as i
		)
		select scope::text, kind, key, coalesce(s.n, 0)::bigint, coalesce(c.n, 0)::bigint from stored s full join counted c using (scope, kind, key)
		where coalesce(s.n, 0) <> 0 or coalesce(c.n, 0) <> 0`)
}

// counts is I6: what analytics has added up, change by change, is what counting everything gives.
func (c *checker) counts() {
	for _, r := range c.s.Counts {
		if r.Stored != r.Counted {
			c.fail("I6", "the count %s %q of %s is %d and must be %d", r.Kind, r.Key, r.Scope, r.Stored, r.Counted)
		}
	}
}
