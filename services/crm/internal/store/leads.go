package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/services/crm/internal/analytics"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/timeline"
)

// leads implements lead.Store on the table leads.
type leads struct {
	unique[lead.Lead]
}

// RecordLeads writes what is derived from leads, in the transaction of each change. It gets all leads that the change is about.
type RecordLeads = func(ctx context.Context, changes []table.Change[lead.Lead]) error

// Leads returns the store of leads.
func Leads(db *pg.DB, out *outbox.Outbox, record ...RecordLeads) lead.Store {
	type l = lead.Lead
	timelines := newItems(db)
	rows := table.New(db, out, table.Spec[l]{
		Name:    "leads",
		Columns: leadColumns,
		Order:   defaultLeads(),
		Missing: lead.NotFound,
		Record: func(ctx context.Context, changes []table.Change[l]) error {
			if err := recordDeltas(ctx, db, changes, analytics.OfLead); err != nil {
				return err
			}
			if err := recordLeadChanges(ctx, timelines, changes); err != nil {
				return err
			}
			if err := eraseRows(ctx, db, changes); err != nil {
				return err
			}
			for _, r := range record {
				if err := r(ctx, changes); err != nil {
					return err
				}
			}
			return nil
		},
	})
	return leads{unique[l]{
		Table: rows, db: db, indexes: []string{"leads_phone"}, exists: lead.Exists,
		like: `select id::text from leads where phone = $1 and id <> $2`,
		args: func(l l) []any { return []any{l.Phone, l.ID} },
	}}
}

func leadColumns(l *lead.Lead) table.Columns {
	f := &l.Fields
	return table.Columns{
		table.Fixed("id", &l.ID), table.Col("assigned_agent_id", &l.AssignedAgentID), table.Col("name", &f.Name), table.Col("phone", &l.Phone),
		table.Col("raw_phone", &l.RawPhone), table.Col("email", &f.Email), table.Col("source_campaign", &f.SourceCampaign),
		table.Col("ad_set", &f.AdSet), table.Col("form_id", &f.FormID), table.Col("form_name", &f.FormName),
		table.Col("google_sheet_row_id", &f.GoogleSheetRowID), table.Col("status", &f.Status), table.Col("status_reason", &l.StatusReason),
		table.Col("intent_category", &f.IntentCategory), table.Col("intent_confidence", &f.IntentConfidence),
		table.Col("interest_level", &f.InterestLevel), table.Col("callback_scheduled_at", &f.CallbackScheduledAt),
		table.Col("next_followup_at", &f.NextFollowUpAt), table.Col("last_contacted_at", &f.LastContactedAt),
		table.Col("followup_count", &f.FollowUpCount), table.Col("course_interested_in", &f.CourseInterestedIn),
		table.Col("payment_link_url", &f.PaymentLinkURL), table.Col("payment_link_sent", &f.PaymentLinkSent),
		table.Col("objections", &f.Objections), table.Col("notes", &f.Notes), table.Col("conversation_summary", &f.ConversationSummary),
		table.Col("extra_data", &f.ExtraData), table.Col("received_data", &l.Received), table.Col("client_id", &l.ClientID), table.Col("decided_at", &l.DecidedAt),
		table.Col("call_id", &l.Call.ID), table.Col("call_version", &l.Call.Version), table.Col("call_at", &l.Call.At),
		table.Col("found", &l.Found),
		table.Col("version", &l.Version), table.Fixed("created_at", &l.CreatedAt), table.Col("updated_at", &l.UpdatedAt),
		table.Col("converted_at", &l.ConvertedAt),
	}
}

// recordLeadChanges writes changes to the timelines of their leads. A removed lead has none, and a change that the API does not show
// is no line.
func recordLeadChanges(ctx context.Context, timelines items, changes []table.Change[lead.Lead]) error {
	var lines []timeline.Item
	for _, c := range changes {
		if c.After == nil {
			continue
		}
		item := timeline.Item{At: c.After.UpdatedAt, LeadID: &c.After.ID, Event: new(events.LeadImported.Name)}
		if c.Before != nil {
			item.Event, item.Fields = new(events.LeadUpdated.Name), changedFields(leadColumns(c.Before), leadColumns(c.After))
			if len(item.Fields) == 0 {
				continue
			}
			if slices.Contains(item.Fields, "status") || slices.Contains(item.Fields, "intent_category") {
				item.Reason = c.After.StatusReason
			}
		}
		lines = append(lines, item)
	}
	return timelines.record(ctx, lines...)
}

// The keys of the orders of lists.
func keyTime(name string, of func(lead.Lead) *time.Time) table.Key[lead.Lead] {
	return table.Key[lead.Lead]{Name: name, Type: "timestamptz", Of: func(l lead.Lead) any {
		if t := of(l); t != nil {
			return *t
		}
		return table.Infinity
	}}
}

func keyID() table.Key[lead.Lead] {
	return table.Key[lead.Lead]{Name: "id", Type: "uuid", Of: func(l lead.Lead) any { return l.ID }}
}

func defaultLeads() table.Order[lead.Lead] {
	return table.Order[lead.Lead]{Keys: []table.Key[lead.Lead]{
		{Name: "list_stage", Type: "bigint", Of: func(l lead.Lead) any {
			if l.Status == lead.New {
				return 0
			}
			return 1
		}},
		keyTime("list_followup", func(l lead.Lead) *time.Time { return l.NextFollowUpAt }),
		{Name: "list_age", Type: "bigint", Of: func(l lead.Lead) any { return -l.CreatedAt.UnixMicro() }},
		keyID(),
	}}
}

// orderOfLeads returns the order of a list. Leads without a time come after those with one, or before them in a descending order.
func orderOfLeads(o lead.Order) table.Order[lead.Lead] {
	var key table.Key[lead.Lead]
	switch o.By {
	case "callbacks":
		order := defaultLeads()
		order.Keys = append([]table.Key[lead.Lead]{keyTime("list_callback", func(l lead.Lead) *time.Time { return l.CallbackScheduledAt })}, order.Keys...)
		return order
	case "created_at":
		key = keyTime("created_at", func(l lead.Lead) *time.Time { return &l.CreatedAt })
	case "updated_at":
		key = keyTime("updated_at", func(l lead.Lead) *time.Time { return &l.UpdatedAt })
	case "next_followup_at":
		key = keyTime("list_followup", func(l lead.Lead) *time.Time { return l.NextFollowUpAt })
	case "callback_scheduled_at":
		key = keyTime("list_callback", func(l lead.Lead) *time.Time { return l.CallbackScheduledAt })
	case "last_contacted_at":
		key = keyTime("list_contacted", func(l lead.Lead) *time.Time { return l.LastContactedAt })
	case "followup_count":
		key = table.Key[lead.Lead]{Name: "followup_count", Type: "bigint", Of: func(l lead.Lead) any { return l.FollowUpCount }}
	case "name":
		key = table.Key[lead.Lead]{Name: "lower(name)", Type: "text", Of: func(l lead.Lead) any { return l.Name }, As: "lower(?)"}
	default:
		order := defaultLeads()
		order.Desc = o.Desc
		return order
	}
	return table.Order[lead.Lead]{Desc: o.Desc, Keys: []table.Key[lead.Lead]{key, keyID()}}
}

// FindByPhone reads the lead with that number.
func (s leads) FindByPhone(ctx context.Context, phone string) (lead.Lead, error) {
	var w table.Where
	w.And("phone = ?", phone)
	return s.FindWhere(ctx, w)
}

// List reads a page of leads.
func (s leads) List(ctx context.Context, f lead.Filter) (page.Of[lead.Lead], error) {
	var w table.Where
	w.If(f.Unassigned, "assigned_agent_id is null")
	w.If(!f.Unassigned && f.AgentID != "", "assigned_agent_id = ?", f.AgentID)
	w.If(f.Status != "", "status = ?", f.Status)
	w.If(f.IntentCategory != "", "intent_category = ?", f.IntentCategory)
	w.If(f.Campaign != "", "source_campaign = ?", f.Campaign)
	w.If(f.UntouchedSince != nil, "status not in ('converted', 'lost') and coalesce(last_contacted_at, created_at) < ?", f.UntouchedSince)
	search(&w, searchedLead, f.Q)
	return s.ListBy(ctx, orderOfLeads(f.Order), w, f.Request)
}

// ChangeAll changes leads in a constant number of statements.
func (s leads) ChangeAll(ctx context.Context, ids []string, fn func(*lead.Lead) (lead.Outcome, []event.Event, error)) ([]string, error) {
	outcomes := map[lead.Outcome]table.Outcome{lead.Unchanged: table.Unchanged, lead.Saved: table.Write, lead.Removed: table.Delete}
	return s.Table.ChangeAll(ctx, ids, func(l *lead.Lead) (table.Outcome, []event.Event, error) {
		outcome, events, err := fn(l)
		return outcomes[outcome], events, err
	})
}

// CreateAll writes new leads in a constant number of statements.
func (s leads) CreateAll(ctx context.Context, all []lead.Lead, eventOf func(*lead.Lead) event.Event) ([]string, error) {
	return s.Table.CreateAll(ctx, all, func(l *lead.Lead) []event.Event { return []event.Event{eventOf(l)} })
}

// FindByPhones returns the leads with these phone numbers.
func (s leads) FindByPhones(ctx context.Context, phones []string) (map[string]lead.Owned, error) {
	found := map[string]lead.Owned{}
	if len(phones) == 0 {
		return found, nil
	}
	rows, err := s.db.Conn(ctx).Query(ctx, `select phone, id::text, assigned_agent_id::text from leads where phone = any($1)`, phones)
	if err != nil {
		return nil, fmt.Errorf("find leads by their phone numbers: %w", pg.Classify(err))
	}
	var number string
	var one lead.Owned
	if _, err := pgx.ForEachRow(rows, []any{&number, &one.LeadID, &one.AgentID}, func() error {
		found[number] = one
		return nil
	}); err != nil {
		return nil, fmt.Errorf("find leads by their phone numbers: %w", pg.Classify(err))
	}
	return found, nil
}

// Loads returns how many open leads each active agent has. It implements inbound.Loads.
type Loads struct{ DB *pg.DB }

// Loads counts in the index leads_open_of_agent.
func (s Loads) Loads(ctx context.Context) (map[string]int, error) {
	rows, err := s.DB.Conn(ctx).Query(ctx, `
		select a.id::text, (select count(*) from leads l where l.assigned_agent_id = a.id and l.status not in ('converted', 'lost'))
		from agents a where a.active`)
	if err != nil {
		return nil, fmt.Errorf("count the open leads of agents: %w", pg.Classify(err))
	}
	loads, id, n := map[string]int{}, "", 0
	if _, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error {
		loads[id] = n
		return nil
	}); err != nil {
		return nil, fmt.Errorf("count the open leads of agents: %w", pg.Classify(err))
	}
	return loads, nil
}
