package lead

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/patch"
	"github.com/convoflow/convoflow/libs/text"
	"github.com/convoflow/convoflow/services/crm/internal/erasure"
	"github.com/convoflow/convoflow/services/crm/internal/timeline"
)

// Agents knows the team. Check fails with a fault unless the agent exists and works.
type Agents interface {
	// Ensure fetches an agent whose event has not arrived yet. It must not run in a transaction.
	Ensure(ctx context.Context, id string) error
	Check(ctx context.Context, id string) error
}

// Rules are what the team has set about leads.
type Rules interface {
	// Check returns what is wrong with a status and with the team's own fields. An empty status and nil are not checked.
	Check(ctx context.Context, status Status, extra Extra) ([]fault.Field, error)
	// HasField reports whether the team has a field of that name.
	HasField(ctx context.Context, name string) (bool, error)
}

// Service implements the operations on leads.
type Service struct {
	Leads          Store
	Agents         Agents
	Rules          Rules
	Clients        Clients
	Timeline       timeline.Store
	Erasures       erasure.Store
	Classifier     Classifier
	InTx           InTx
	NormalizePhone NormalizePhone
	Clock          clock.Clock
}

// CreateRequest is a new lead, as a person enters it.
type CreateRequest struct {
	Phone           string  `json:"phone"`
	AssignedAgentID *string `json:"assigned_agent_id"` // by default the caller
	Fields
}

// EnsureAgent fetches the agent of a new lead. It must run before Create, outside its transaction.
func (s *Service) EnsureAgent(ctx context.Context, req CreateRequest) error {
	return s.ensureAgent(ctx, req.AssignedAgentID)
}

func (s *Service) ensureAgent(ctx context.Context, id *string) error {
	if id == nil || !event.ValidID(*id) {
		return nil // none, or reported with all wrong fields
	}
	return s.Agents.Ensure(ctx, *id)
}

// Create creates a lead, of the caller unless it names another agent. It fails with agent_not_found, agent_inactive or lead_exists.
func (s *Service) Create(ctx context.Context, req CreateRequest) (Lead, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Lead{}, err
	}
	l, err := s.fresh(ctx, req)
	if err != nil {
		return Lead{}, err
	}
	agentID := cmp.Or(l.AssignedAgentID, &caller.AgentID)
	if *agentID != caller.AgentID { // one's own copy may not have arrived yet
		if err := s.Agents.Check(ctx, *agentID); err != nil {
			return Lead{}, err
		}
	}
	now := s.Clock.Now()
	l, imported := Create(l.Fields, l.Phone, l.RawPhone, agentID, now)
	return l, s.hidden(ctx, caller, s.Leads.Create(ctx, l, imported))
}

// fresh returns the fields of a new lead, and fails with those that are wrong.
func (s *Service) fresh(ctx context.Context, req CreateRequest) (l Lead, err error) {
	wrong, err := s.Rules.Check(ctx, req.Status, req.ExtraData)
	if err != nil {
		return Lead{}, err
	}
	l = Lead{AssignedAgentID: cleanText(req.AssignedAgentID), Fields: req.Fields}
	wrong = append(wrong, s.setPhone(&l, req.Phone)...)
	fields, more := l.cleaned()
	if wrong = append(wrong, more...); len(wrong) > 0 {
		return Lead{}, fault.Fields(wrong...)
	}
	l.Fields = fields
	return l, nil
}

// Refuse fails with the fields of a new lead that Create refuses.
func (s *Service) Refuse(ctx context.Context, req CreateRequest) error {
	_, err := s.fresh(ctx, req)
	return err
}

// hidden returns err without the id of a lead that the caller may not see.
func (s *Service) hidden(ctx context.Context, caller identity.Caller, err error) error {
	var exists *fault.Error
	if !errors.As(err, &exists) || exists.Code != codeExists {
		return err
	}
	id, _ := exists.Extra["lead_id"].(string)
	first, findErr := s.Leads.Find(ctx, id)
	if findErr == nil && first.CheckAccess(caller) == nil {
		return err
	}
	return Exists("")
}

// ListRequest is the query of a list. Empty and nil fields do not filter.
type ListRequest struct {
	Status          string     `query:"status"`
	StatusFilter    string     `query:"status_filter"` // the same, as the dashboard names it
	IntentCategory  string     `query:"intent_category"`
	Campaign        string     `query:"campaign"`
	AssignedAgentID string     `query:"assigned_agent_id"`
	Unassigned      bool       `query:"unassigned"`
	UntouchedSince  *time.Time `query:"untouched_since"` // open, and nobody was in touch since then
	Q               string     `query:"q"`
	Search          string     `query:"search"` // the same, as the dashboard names it
	Sort            string     `query:"sort"`
	Order           string     `query:"order"` // asc or desc
	page.Request
}

// List returns a page of the caller's leads, or of the team's for an admin. An agent may also list the leads that nobody works on.
func (s *Service) List(ctx context.Context, req ListRequest) (page.Of[Lead], error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return page.Of[Lead]{}, err
	}
	f := req.filter("default")
	f.AgentID = cmp.Or(caller.Scope(), req.AssignedAgentID)
	f.Unassigned, f.UntouchedSince = req.Unassigned, req.UntouchedSince
	if f.AgentID != "" && req.AssignedAgentID != "" && req.AssignedAgentID != f.AgentID {
		return page.Of[Lead]{}, nil // another agent's
	}
	return s.Leads.List(ctx, f)
}

// ListMine returns a page of the caller's own leads, also for an admin: those with a callback first, by its time.
func (s *Service) ListMine(ctx context.Context, req ListRequest) (page.Of[Lead], error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return page.Of[Lead]{}, err
	}
	f := req.filter("callbacks")
	f.AgentID = caller.AgentID
	return s.Leads.List(ctx, f)
}

func (r ListRequest) filter(order string) Filter {
	f := Filter{
		Status: cmp.Or(r.Status, r.StatusFilter), IntentCategory: r.IntentCategory, Campaign: r.Campaign, Q: cmp.Or(r.Q, r.Search),
		Order: Order{By: order, Desc: r.Order == "desc"}, Request: r.Request,
	}
	if r.Sort == "" {
		f.Order.Desc = false // the direction belongs to a field
	} else {
		f.Order.By = r.Sort
	}
	return f
}

// IDRequest names one lead.
type IDRequest struct {
	ID string `path:"id" json:"-"`
}

// Get returns a lead. It fails with lead_not_found or lead_forbidden.
func (s *Service) Get(ctx context.Context, req IDRequest) (Lead, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Lead{}, err
	}
	l, err := s.Leads.Find(ctx, req.ID)
	if err != nil {
		return Lead{}, err
	}
	return l, l.CheckAccess(caller)
}

// ListTimeline returns a page of what happened with a lead, newest first. It fails as Get does.
func (s *Service) ListTimeline(ctx context.Context, req timeline.Request) (page.Of[timeline.Item], error) {
	if _, err := s.Get(ctx, IDRequest{req.ID}); err != nil {
		return page.Of[timeline.Item]{}, err
	}
	return s.Timeline.List(ctx, timeline.Filter{LeadID: req.ID, Request: req.Request})
}

// UpdateRequest has the fields of a lead to change, as a form sends them: an omitted field does not change, "" clears a text and
// null any field that can be empty.
type UpdateRequest struct {
	ID                  string                 `path:"id" json:"-"`
	Phone               patch.Field[string]    `json:"phone"`
	AssignedAgentID     patch.Field[string]    `json:"assigned_agent_id"`
	Name                patch.Field[string]    `json:"name"`
	Email               patch.Field[string]    `json:"email"`
	SourceCampaign      patch.Field[string]    `json:"source_campaign"`
	AdSet               patch.Field[string]    `json:"ad_set"`
	FormID              patch.Field[string]    `json:"form_id"`
	FormName            patch.Field[string]    `json:"form_name"`
	GoogleSheetRowID    patch.Field[string]    `json:"google_sheet_row_id"`
	Status              *Status                `json:"status"`
	IntentCategory      *Intent                `json:"intent_category"`
	IntentConfidence    patch.Field[float64]   `json:"intent_confidence"`
	InterestLevel       patch.Field[string]    `json:"interest_level"`
	CallbackScheduledAt patch.Field[time.Time] `json:"callback_scheduled_at"`
	NextFollowUpAt      patch.Field[time.Time] `json:"next_followup_at"`
	LastContactedAt     patch.Field[time.Time] `json:"last_contacted_at"`
	FollowUpCount       *int                   `json:"followup_count"`
	CourseInterestedIn  patch.Field[string]    `json:"course_interested_in"`
	PaymentLinkURL      patch.Field[string]    `json:"payment_link_url"`
	PaymentLinkSent     *bool                  `json:"payment_link_sent"`
	Objections          patch.Field[string]    `json:"objections"`
	Notes               patch.Field[string]    `json:"notes"`
	ConversationSummary patch.Field[string]    `json:"conversation_summary"`
	ExtraData           patch.Field[Extra]     `json:"extra_data"`
}

// EnsureNewAgent fetches the agent that an update names. It must run before Update, outside its transaction.
func (s *Service) EnsureNewAgent(ctx context.Context, req UpdateRequest) error {
	id, _ := req.AssignedAgentID.Sent()
	return s.ensureAgent(ctx, id)
}

// Update writes the fields that were sent, and no others: two agents who edit one lead at once lose nothing. It fails like Get, and
// with agent_not_found, agent_inactive or lead_exists.
func (s *Service) Update(ctx context.Context, req UpdateRequest) (Lead, error) {
	team, err := s.checkTeam(ctx, req)
	if err != nil {
		return Lead{}, err
	}
	return s.change(ctx, req.ID, func(l *Lead) error { return s.edit(l, req, team) })
}

// RefuseUpdate fails with the fields that Update refuses, or like Get.
func (s *Service) RefuseUpdate(ctx context.Context, req UpdateRequest) error {
	l, err := s.Get(ctx, IDRequest{req.ID})
	if err != nil {
		return err
	}
	team, err := s.checkTeam(ctx, req)
	if err != nil {
		return err
	}
	return s.edit(&l, req, team)
}

// edit writes the fields that were sent to a lead.
func (s *Service) edit(l *Lead, req UpdateRequest, team verdict) error {
	before := *l
	wrong := slices.Clone(team.extra) // the change may be repeated
	if name, sent := req.Name.Sent(); sent {
		l.Name = text.Of(name) // an empty one is wrong
	}
	if number, sent := req.Phone.Sent(); sent {
		wrong = append(wrong, s.setPhone(l, text.Of(number))...)
	}
	req.AssignedAgentID.Apply(&l.AssignedAgentID)
	l.AssignedAgentID = cleanText(l.AssignedAgentID)
	req.apply(&l.Fields)
	if l.Status != before.Status {
		wrong = append(wrong, team.status...)
	}
	fields, more := l.cleaned()
	if wrong = append(wrong, more...); len(wrong) > 0 {
		return fault.Fields(wrong...)
	}
	if id := l.AssignedAgentID; id != nil && (before.AssignedAgentID == nil || *id != *before.AssignedAgentID) && team.agent != nil {
		return team.agent
	}
	l.Fields = fields
	if l.Status != before.Status || l.IntentCategory != before.IntentCategory {
		l.decide(s.Clock.Now())
	}
	return nil
}

// verdict is what the team's rules say about an update.
type verdict struct {
	agent         error // the fault of an agent that a lead cannot be assigned to
	status, extra []fault.Field
}

// checkTeam checks what an update sends against the team. It is no problem to send back an agent or status that the lead has already,
// as forms do: the team may have changed since.
func (s *Service) checkTeam(ctx context.Context, req UpdateRequest) (v verdict, err error) {
	if id, _ := req.AssignedAgentID.Sent(); id != nil && event.ValidID(*id) {
		v.agent = s.Agents.Check(ctx, *id)
		if v.agent != nil && !fault.Is(v.agent, fault.NotFound) && !fault.Is(v.agent, fault.Conflict) {
			return v, v.agent
		}
	}
	if req.Status != nil {
		if v.status, err = s.Rules.Check(ctx, *req.Status, nil); err != nil {
			return v, err
		}
	}
	if sent, _ := req.ExtraData.Sent(); sent != nil {
		v.extra, err = s.Rules.Check(ctx, "", *sent)
	}
	return v, err
}

func (r UpdateRequest) apply(f *Fields) {
	r.Email.Apply(&f.Email)
	r.SourceCampaign.Apply(&f.SourceCampaign)
	r.AdSet.Apply(&f.AdSet)
	r.FormID.Apply(&f.FormID)
	r.FormName.Apply(&f.FormName)
	r.GoogleSheetRowID.Apply(&f.GoogleSheetRowID)
	r.IntentConfidence.Apply(&f.IntentConfidence)
	r.InterestLevel.Apply(&f.InterestLevel)
	r.CallbackScheduledAt.Apply(&f.CallbackScheduledAt)
	r.NextFollowUpAt.Apply(&f.NextFollowUpAt)
	r.LastContactedAt.Apply(&f.LastContactedAt)
	r.CourseInterestedIn.Apply(&f.CourseInterestedIn)
	r.PaymentLinkURL.Apply(&f.PaymentLinkURL)
	r.Objections.Apply(&f.Objections)
	r.Notes.Apply(&f.Notes)
	r.ConversationSummary.Apply(&f.ConversationSummary)
	set(&f.Status, r.Status)
	set(&f.IntentCategory, r.IntentCategory)
	set(&f.FollowUpCount, r.FollowUpCount)
	set(&f.PaymentLinkSent, r.PaymentLinkSent)
	if extra, sent := r.ExtraData.Sent(); sent {
		f.ExtraData = nil
		set(&f.ExtraData, extra)
	}
}

func set[T any](to, value *T) {
	if value != nil {
		*to = *value
	}
}

// change lets edit change a lead that the caller may change, and publishes the change.
func (s *Service) change(ctx context.Context, id string, edit func(*Lead) error) (Lead, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Lead{}, err
	}
	l, err := s.act(ctx, id, func(l *Lead, now time.Time) ([]event.Event, error) {
		before := l.IntentCategory
		if err := edit(l); err != nil {
			return nil, err
		}
		return []event.Event{l.Edited(before, now)}, nil
	})
	return l, s.hidden(ctx, caller, err)
}

// Delete deletes a lead, and asks every service to erase what it has of it: also this one, its follow-ups and timeline.
func (s *Service) Delete(ctx context.Context, req IDRequest) (x erasure.Erasure, err error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return x, err
	}
	err = s.InTx(ctx, func(ctx context.Context) error {
		err := s.Leads.Remove(ctx, req.ID, identity.Guard(ctx, (*Lead).CheckAccess, func(l *Lead) (events []event.Event, err error) {
			events, x = l.Remove(caller.AgentID, s.Clock.Now())
			return events, nil
		}))
		if err != nil {
			return err
		}
		return erasure.Request(ctx, s.Erasures, x)
	})
	return x, err
}

// Remove returns the event of a lead that an agent deletes, and the erasure to request with it.
func (l *Lead) Remove(agentID string, now time.Time) ([]event.Event, erasure.Erasure) {
	deleted := l.erase(now)
	return []event.Event{deleted}, erasure.New(events.KindLead, l.ID, l.Version, agentID, now)
}

// setPhone sets the number that a person has entered, and returns what is wrong with it. A number that is no phone number may stay
// as it is: a form sends all its fields back.
func (s *Service) setPhone(l *Lead, number string) []fault.Field {
	number = strings.TrimSpace(number)
	if number == l.Number() && number != "" {
		return nil
	}
	e164, ok := s.NormalizePhone(number)
	if !ok {
		return []fault.Field{fault.BodyField("phone", "phone_number", "Input should be a phone number, with its country code when it is a foreign one")}
	}
	l.Phone, l.RawPhone = &e164, nil
	return nil
}
