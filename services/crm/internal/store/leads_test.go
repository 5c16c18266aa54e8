package store_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/store"
)

type leadStore struct {
	lead.Store
	db *pg.DB
}

func openLeads(t *testing.T, record ...store.RecordLeads) leadStore {
	t.Helper()
	db := pgtest.Open(t, outbox.Migrations(), store.Migrations())
	return leadStore{store.Leads(db, outbox.New(db, telemetry.Nop()), record...), db}
}

func (s leadStore) add(t *testing.T, edits ...func(*lead.Lead)) lead.Lead {
	t.Helper()
	l, imported := lead.Create(lead.Fields{Name: "Priya"}, nil, new("no number "+event.NewID()), nil, at(0))
	for _, edit := range edits {
		edit(&l)
	}
	require.NoError(t, s.Create(t.Context(), l, imported))
	return l
}

func TestALeadIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	s := openLeads(t)
	full := lead.Fields{
		Name: "Priya", Email: new("p@example.com"), SourceCampaign: new("Diwali"), AdSet: new("a"), FormID: new("f"), FormName: new("form"), GoogleSheetRowID: new("7"),
		Status: lead.Qualified, IntentCategory: lead.Interested, LeadDetails: events.LeadDetails{
			IntentConfidence: new(0.5), InterestLevel: new("high"), CallbackScheduledAt: new(at(1)), NextFollowUpAt: new(at(2)),
			LastContactedAt: new(at(3)), FollowUpCount: 4, CourseInterestedIn: new("c"), PaymentLinkURL: new("u"), PaymentLinkSent: true, Objections: new("o"), Notes: new("n"),
			ConversationSummary: new("s"),
		},
		ExtraData: lead.Extra{"big": json.RawMessage("120210000000000123"), "nested": json.RawMessage(`{"a": [1]}`)},
	}
	l, imported := lead.Create(full, new("+919876543210"), nil, new(event.NewID()), at(5))
	l.ClientID, l.DecidedAt, l.StatusReason = new(event.NewID()), new(at(6)), new("why")
	l.Call = lead.AppliedCall{ID: new(event.NewID()), Version: 3, At: new(at(7))}
	l.Found = lead.Found{IntentConfidence: new(0.5), InterestLevel: new("high"), Objections: new("o"), CallbackTime: new(at(8))}
	require.NoError(t, s.Create(t.Context(), l, imported))
	got, err := s.Find(t.Context(), l.ID)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(l, got))

	// Written together with others, it is the same.
	second := s.add(t)
	found, err := s.ChangeAll(t.Context(), []string{l.ID, second.ID, event.NewID()}, func(x *lead.Lead) (lead.Outcome, []event.Event, error) {
		if x.ID == l.ID {
			x.FollowUpCount++
			return lead.Saved, nil, nil
		}
		x.Fields, x.StatusReason = full, new("together")
		return lead.Saved, nil, nil
	})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{l.ID, second.ID}, found)
	l.FollowUpCount++
	second.Fields, second.StatusReason = full, new("together")
	for _, want := range []lead.Lead{l, second} {
		got, err := s.Find(t.Context(), want.ID)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(want, got))
	}
	_, err = s.FindByPhone(t.Context(), "+919876543211")
	require.True(t, fault.Is(err, fault.NotFound))
	got, err = s.FindByPhone(t.Context(), "+919876543210")
	require.NoError(t, err)
	require.Equal(t, l.ID, got.ID)
}

// TestABulkChangeIsAConstantNumberOfStatements counts the spans that pgx makes, one per statement.
func TestABulkChangeIsAConstantNumberOfStatements(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	tel := telemetry.Nop()
	tel.Traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	url := pgtest.Schema(t)
	db, err := pg.Open(t.Context(), pg.Config{URL: conf.Secret(url), MaxConns: 4}, "unused", tel)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	require.NoError(t, db.Migrate(t.Context(), outbox.Migrations(), store.Migrations()))
	recorded := 0
	s := leadStore{store.Leads(db, outbox.New(db, tel), func(_ context.Context, changes []table.Change[lead.Lead]) error { recorded = len(changes); return nil }), db}
	var ids []string
	for range 501 {
		ids = append(ids, s.add(t).ID)
	}
	count := func(n int, outcome lead.Outcome) int {
		ctx, span := tel.Traces.Tracer("test").Start(t.Context(), "request")
		defer span.End()
		before := len(spans.Ended())
		_, err := s.ChangeAll(ctx, ids[:n], func(l *lead.Lead) (lead.Outcome, []event.Event, error) {
			l.Status = lead.Contacted
			return outcome, []event.Event{l.Edited(l.IntentCategory, at(9))}, nil
		})
		require.NoError(t, err)
		require.Equal(t, n, recorded)
		return len(spans.Ended()) - before
	}
	for _, outcome := range []lead.Outcome{lead.Saved, lead.Removed} { // the first of each also prepares its statements
		count(1, outcome)
		ids = ids[int(outcome)-1:] // one is removed
	}
	count(3, lead.Saved) // counts of more than two changes have a statement of their own
	const most = 8       // begin, select, update, insert the timelines, the counts and into the outbox as one batch, commit
	require.LessOrEqual(t, count(1, lead.Saved), most)
	require.LessOrEqual(t, count(500, lead.Saved), most)
	require.LessOrEqual(t, count(500, lead.Removed), most)
	require.Equal(t, []int{501 + 1 + 1 + 3 + 1 + 500 + 500}, pgtest.Column[int](t, db, `select count(*)::int from outbox`), "an event for each lead")
	require.Equal(t, []int{0}, pgtest.Column[int](t, db, `select count(*)::int from leads`))
}

func TestEveryOrderOfLeadsHasItsPages(t *testing.T) {
	t.Parallel()
	s := openLeads(t)
	agentID := event.NewID()
	var all []lead.Lead
	for i := range 24 { // with equal and missing keys
		all = append(all, s.add(t, func(l *lead.Lead) {
			l.AssignedAgentID, l.Name = &agentID, []string{"anna", "Bea", "Zoe"}[i%3]
			l.Status = []lead.Status{lead.New, lead.Contacted, lead.Lost}[i%3]
			l.CreatedAt, l.UpdatedAt, l.FollowUpCount = at(i%5), at(i%7), i%4
			if i%2 == 0 {
				l.NextFollowUpAt = new(at(i % 3))
			}
			if i%3 == 0 {
				l.CallbackScheduledAt = new(at(i % 4))
			}
			if i%4 == 0 {
				l.LastContactedAt = new(at(i % 6))
			}
		}))
	}
	s.add(t) // of nobody
	late := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	or := func(t *time.Time) time.Time {
		if t == nil {
			return late
		}
		return *t
	}
	byDefault := func(a, b lead.Lead) int {
		stage := func(l lead.Lead) int {
			if l.Status == lead.New {
				return 0
			}
			return 1
		}
		if c := stage(a) - stage(b); c != 0 {
			return c
		}
		if c := or(a.NextFollowUpAt).Compare(or(b.NextFollowUpAt)); c != 0 {
			return c
		}
		return b.CreatedAt.Compare(a.CreatedAt)
	}
	compare := map[string]func(a, b lead.Lead) int{
		"default":               byDefault,
		"created_at":            func(a, b lead.Lead) int { return a.CreatedAt.Compare(b.CreatedAt) },
		"updated_at":            func(a, b lead.Lead) int { return a.UpdatedAt.Compare(b.UpdatedAt) },
		"name":                  func(a, b lead.Lead) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) },
		"next_followup_at":      func(a, b lead.Lead) int { return or(a.NextFollowUpAt).Compare(or(b.NextFollowUpAt)) },
		"callback_scheduled_at": func(a, b lead.Lead) int { return or(a.CallbackScheduledAt).Compare(or(b.CallbackScheduledAt)) },
		"last_contacted_at":     func(a, b lead.Lead) int { return or(a.LastContactedAt).Compare(or(b.LastContactedAt)) },
		"followup_count":        func(a, b lead.Lead) int { return a.FollowUpCount - b.FollowUpCount },
		"callbacks": func(a, b lead.Lead) int {
			if c := or(a.CallbackScheduledAt).Compare(or(b.CallbackScheduledAt)); c != 0 {
				return c
			}
			return byDefault(a, b)
		},
	}
	for by, less := range compare {
		for _, desc := range []bool{false, true} {
			if by == "callbacks" && desc {
				continue // apps turn the order of a field only
			}
			want := slices.Clone(all)
			slices.SortFunc(want, func(a, b lead.Lead) int {
				c := less(a, b)
				if c == 0 {
					c = strings.Compare(a.ID, b.ID)
				}
				if desc {
					c = -c
				}
				return c
			})
			for _, limit := range []int{1, 5, 24} {
				got := pages(t, func(cursor string) ([]lead.Lead, string, error) {
					p, err := s.List(t.Context(), lead.Filter{AgentID: agentID, Order: lead.Order{By: by, Desc: desc}, Request: page.Request{Limit: limit, Cursor: cursor}})
					return p.Items, p.Next, err
				}, func(l lead.Lead) string { return l.ID })
				require.Equal(t, idsOf(want), got, "%s desc=%t limit %d", by, desc, limit)
			}
		}
	}
}

func idsOf(leads []lead.Lead) (ids []string) {
	for _, l := range leads {
		ids = append(ids, l.ID)
	}
	return ids
}

func TestLeadFiltersAndSearch(t *testing.T) {
	t.Parallel()
	s := openLeads(t)
	first := s.add(t, func(l *lead.Lead) {
		l.Name, l.RawPhone, l.Phone, l.Email, l.SourceCampaign = "Priya 100% Sharma", nil, new("+919876543210"), new("p_s@example.com"), new("Diwali Ünïon")
		l.Status, l.IntentCategory = lead.Lost, lead.NotInterested
	})
	s.add(t, func(l *lead.Lead) { l.Name = "Somebody else" })
	for q, want := range map[string]int{"pRIYA": 1, "98765": 1, "098765 432": 1, "98 76-5": 1, "p_s@": 1, "00%": 1, "0% s": 1, "Priya%Sharma": 0, "diwali ÜNÏ": 1, "no number": 1, "xxx": 0, "Sharma\x01+91": 0, "som": 1,
		"so": 1, "PR": 1, "p": 1, "ri": 0, "xx": 0, "p%": 0} {
		p, err := s.List(t.Context(), lead.Filter{Q: q, Request: page.Request{Limit: 50}})
		require.NoError(t, err)
		require.Len(t, p.Items, want, "%q", q)
	}
	for _, f := range []lead.Filter{{Status: "lost"}, {IntentCategory: "not_interested"}, {Campaign: "Diwali Ünïon"}} {
		f.Limit = 50
		p, err := s.List(t.Context(), f)
		require.NoError(t, err)
		require.Equal(t, []string{first.ID}, idsOf(p.Items), "%+v", f)
	}
}

func TestWhatIsDerivedFromLeadsSeesEveryChange(t *testing.T) {
	t.Parallel()
	var seen []string
	s := openLeads(t, func(_ context.Context, changes []table.Change[lead.Lead]) error {
		for _, c := range changes {
			text := func(l *lead.Lead) string {
				if l == nil {
					return "nothing"
				}
				return string(l.Status)
			}
			seen = append(seen, text(c.Before)+" → "+text(c.After))
		}
		return nil
	})
	first, second := s.add(t), s.add(t)
	to := func(status lead.Status) func(l *lead.Lead) ([]event.Event, error) {
		return func(l *lead.Lead) ([]event.Event, error) {
			l.Status = status
			return []event.Event{l.Edited(l.IntentCategory, at(1))}, nil
		}
	}
	_, err := s.Change(t.Context(), first.ID, to(lead.Contacted))
	require.NoError(t, err)
	_, err = s.ChangeAll(t.Context(), []string{first.ID, second.ID}, func(l *lead.Lead) (lead.Outcome, []event.Event, error) {
		if l.ID == second.ID {
			return lead.Removed, nil, nil
		}
		l.Status = lead.Lost
		return lead.Saved, nil, nil
	})
	require.NoError(t, err)
	require.NoError(t, s.Remove(t.Context(), first.ID, to(lead.Converted)))
	slices.Sort(seen[3:5])
	require.Equal(t, []string{"nothing → new", "nothing → new", "new → contacted", "contacted → lost", "new → nothing", "lost → nothing"}, seen)
	require.Equal(t, []string{"lead.imported", "lead.imported", "lead.updated", "lead.updated"}, pgtest.Column[string](t, s.db, `select type from outbox order by id`))
	require.Equal(t, events.LeadsTopic, pgtest.Column[string](t, s.db, `select topic from outbox limit 1`)[0])
}
