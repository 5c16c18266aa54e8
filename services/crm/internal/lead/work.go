package lead

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/patch"
	"github.com/convoflow/convoflow/libs/text"
	"github.com/convoflow/convoflow/services/crm/internal/erasure"
)

// Clients makes clients of leads.
type Clients interface {
	// Make returns the id of the client of that agent with the lead's phone or e-mail, which it creates if there is none.
	Make(ctx context.Context, l Lead, agentID string) (clientID string, err error)
}

// InTx runs fn in a transaction, which stores join.
type InTx func(ctx context.Context, fn func(ctx context.Context) error) error

// AssignRequest names the agent who works on a lead from now on.
type AssignRequest struct {
	ID      string `path:"id" json:"-"`
	AgentID string `query:"agent_id" json:"-"` // by default the caller
}

// EnsureAssignee fetches the agent of an assignment. It must run before Assign, outside its transaction.
func (s *Service) EnsureAssignee(ctx context.Context, req AssignRequest) error {
	if req.AgentID == "" {
		return nil
	}
	return s.ensureAgent(ctx, &req.AgentID)
}

// Assign gives a lead to an agent. An agent may give away its own leads and take one that nobody works on. It fails like Get, and
// with agent_not_found or agent_inactive. To assign it to its agent again changes nothing.
func (s *Service) Assign(ctx context.Context, req AssignRequest) (Lead, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Lead{}, err
	}
	var newAgent error
	if req.AgentID = cmp.Or(req.AgentID, caller.AgentID); req.AgentID != caller.AgentID {
		newAgent = s.Agents.Check(ctx, req.AgentID)
	}
	return s.act(ctx, req.ID, func(l *Lead, now time.Time) ([]event.Event, error) {
		if l.AssignedAgentID != nil && *l.AssignedAgentID == req.AgentID {
			return nil, nil
		}
		if newAgent != nil {
			return nil, newAgent
		}
		return l.assign(req.AgentID, now), nil
	})
}

func (l *Lead) assign(agentID string, now time.Time) []event.Event {
	l.AssignedAgentID = &agentID
	return []event.Event{l.Edited(l.IntentCategory, now)}
}

// take gives a lead that nobody works on to an agent who does.
func (l *Lead) take(agentID string) {
	if l.AssignedAgentID == nil {
		l.AssignedAgentID = &agentID
	}
}

// NoAnswer records that the agent has called and nobody answered. The event makes calls write a call without a recording, of the
// agent who works on the lead. It fails like Get.
func (s *Service) NoAnswer(ctx context.Context, req IDRequest) (Lead, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Lead{}, err
	}
	attemptID := event.NewID()
	return s.act(ctx, req.ID, func(l *Lead, now time.Time) ([]event.Event, error) {
		l.take(caller.AgentID)
		return l.noAnswer(attemptID, now), nil
	})
}

func (l *Lead) noAnswer(attemptID string, now time.Time) []event.Event {
	l.Status, l.IntentCategory = Contacted, NoAnswer
	l.FollowUpCount++
	l.LastContactedAt = &now
	l.decide(now)
	l.touch(now)
	state := l.state()
	state.AttemptID = &attemptID
	return []event.Event{events.LeadNoAnswer.New(now, state)}
}

// Convert makes a client of a lead, of the agent who works on it, or uses the one with its phone or e-mail. A repetition changes
// nothing. It fails like Get.
func (s *Service) Convert(ctx context.Context, req IDRequest) (l Lead, err error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Lead{}, err
	}
	err = s.InTx(ctx, func(ctx context.Context) error {
		l, err = s.act(ctx, req.ID, func(l *Lead, now time.Time) ([]event.Event, error) {
			if l.Status == Converted && l.ClientID != nil {
				return nil, nil
			}
			l.take(caller.AgentID)
			clientID, err := s.Clients.Make(ctx, *l, *l.AssignedAgentID)
			if err != nil {
				return nil, err
			}
			return l.convert(clientID, now), nil
		})
		return err
	})
	return l, err
}

func (l *Lead) convert(clientID string, now time.Time) []event.Event {
	l.ClientID, l.Status, l.IntentCategory = &clientID, Converted, IntentConverted
	l.decide(now)
	l.touch(now)
	return []event.Event{events.LeadConverted.New(now, l.state())}
}

// Verdict is what a language model finds about the intent of a lead. Nil means unknown.
type Verdict struct {
	IntentCategory   *Intent    `json:"intent_category"`
	IntentConfidence *float64   `json:"intent_confidence"` // 0 to 1
	InterestLevel    *string    `json:"interest_level"`
	Objections       []string   `json:"objections"`
	CallbackTime     *time.Time `json:"callback_time"`
}

// Classifier asks a language model about the summary of a conversation. It must not be called in a transaction.
type Classifier func(ctx context.Context, summary string) (Verdict, error)

// Classify runs the AI over the conversation summary and moves the lead as a call with that intent would. It fails like Get, with
// lead_without_summary, and with Unavailable if the AI does not answer.
func (s *Service) Classify(ctx context.Context, req IDRequest) (Lead, error) {
	l, err := s.Get(ctx, req)
	if err != nil {
		return Lead{}, err
	}
	if l.ConversationSummary == nil {
		return Lead{}, fault.New(fault.Conflict, "lead_without_summary", "This lead has no conversation summary to classify")
	}
	verdict, err := s.Classifier(ctx, *l.ConversationSummary)
	if err != nil {
		return Lead{}, err
	}
	return s.act(ctx, req.ID, func(l *Lead, now time.Time) ([]event.Event, error) {
		return l.classify(verdict, now), nil
	})
}

func (l *Lead) classify(v Verdict, now time.Time) []event.Event {
	if v.IntentCategory == nil {
		return nil
	}
	status, ok := stageOf(*v.IntentCategory)
	if !ok {
		return nil
	}
	before := l.IntentCategory
	l.IntentCategory, l.Status = *v.IntentCategory, status
	l.find(v.IntentConfidence, v.InterestLevel, v.Objections, v.CallbackTime)
	l.decide(now)
	l.StatusReason = new("Summary: " + string(l.IntentCategory))
	return []event.Event{l.Edited(before, now)}
}

// act lets fn change a lead that the caller may change. fn returns the events of the change.
func (s *Service) act(ctx context.Context, id string, fn func(l *Lead, now time.Time) ([]event.Event, error)) (Lead, error) {
	return s.Leads.Change(ctx, id, identity.Guard(ctx, (*Lead).CheckAccess, func(l *Lead) ([]event.Event, error) {
		if err := patch.Check(ctx, l.Version); err != nil {
			return nil, err
		}
		return fn(l, s.Clock.Now())
	}))
}

// Actions of a bulk change.
const (
	ChangeStatus = "change_status"
	ChangeIntent = "change_intent"
	AssignAll    = "assign"
	DeleteAll    = "delete"
	UpdateField  = "update_field"
)

// BulkRequest changes many leads in the same way.
type BulkRequest struct {
	LeadIDs        []string        `json:"lead_ids"`
	Action         string          `json:"action"`
	Status         *Status         `json:"status"`
	IntentCategory *Intent         `json:"intent_category"`
	AgentID        *string         `json:"agent_id"`
	FieldName      *string         `json:"field_name"`
	FieldValue     json.RawMessage `json:"field_value"`
}

// BulkResult says what became of the leads of a bulk change.
type BulkResult struct {
	Updated int      `json:"updated"`
	Deleted int      `json:"deleted"`
	Failed  int      `json:"failed"`
	Errors  []string `json:"errors"` // "<id>: not found"
}

// EnsureBulkAgent fetches the agent of a bulk assignment. It must run before Bulk, outside its transaction.
func (s *Service) EnsureBulkAgent(ctx context.Context, req BulkRequest) error {
	if req.Action != AssignAll {
		return nil
	}
	return s.ensureAgent(ctx, req.AgentID)
}

// Bulk changes many leads in one transaction and a constant number of statements. A lead that does not exist or belongs to another
// agent, and one that the change does not fit, is reported and does not stop the others.
func (s *Service) Bulk(ctx context.Context, req BulkRequest) (BulkResult, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return BulkResult{}, err
	}
	edit, err := s.bulkEdit(ctx, req)
	if err != nil {
		return BulkResult{}, err
	}
	errs := map[string]string{}
	var found []string
	err = s.InTx(ctx, func(ctx context.Context) error {
		var erased []erasure.Erasure
		found, err = s.Leads.ChangeAll(ctx, req.LeadIDs, func(l *Lead) (Outcome, []event.Event, error) {
			delete(errs, l.ID) // of an earlier run
			now := s.Clock.Now()
			if err := l.CheckAccess(caller); err != nil {
				errs[l.ID] = "belongs to another agent"
				return Unchanged, nil, nil
			}
			if req.Action == DeleteAll {
				events, x := l.Remove(caller.AgentID, now)
				erased = append(erased, x)
				return Removed, events, nil
			}
			before := *l
			if wrong := edit(l, now); wrong != nil {
				*l = before
				errs[l.ID] = fault.Of(wrong).Detail
				return Unchanged, nil, nil
			}
			return Saved, []event.Event{l.Edited(before.IntentCategory, now)}, nil
		})
		if err != nil {
			return err
		}
		return erasure.Request(ctx, s.Erasures, erased...)
	})
	if err != nil {
		return BulkResult{}, err
	}
	return req.result(found, errs), nil
}

// result counts what became of the leads of a bulk change.
func (r BulkRequest) result(found []string, errs map[string]string) BulkResult {
	result := BulkResult{Errors: []string{}}
	exists := map[string]bool{}
	for _, id := range found {
		exists[id] = true
	}
	seen := map[string]bool{}
	for _, id := range r.LeadIDs {
		switch wrong, failed := errs[id]; {
		case seen[id]:
			continue // named twice
		case !exists[id]:
			result.Errors = append(result.Errors, id+": not found")
		case failed:
			result.Errors = append(result.Errors, id+": "+wrong)
		case r.Action == DeleteAll:
			result.Deleted++
		default:
			result.Updated++
		}
		seen[id] = true
	}
	result.Failed = len(result.Errors)
	return result
}

// bulkEdit returns what a bulk change does with a lead. It fails with what is wrong with the request itself. The function that it
// returns reports why the change does not fit a lead.
func (s *Service) bulkEdit(ctx context.Context, req BulkRequest) (func(*Lead, time.Time) error, error) {
	missing := func(name string) error { return fault.Fields(fault.BodyField(name, "missing", "Field required")) }
	switch req.Action {
	case ChangeStatus:
		if req.Status == nil {
			return nil, missing("status")
		}
		wrong, err := s.Rules.Check(ctx, *req.Status, nil)
		if len(wrong) > 0 {
			err = fault.Fields(wrong...)
		}
		return func(l *Lead, now time.Time) error {
			l.Status = *req.Status
			l.decide(now)
			return nil
		}, err
	case ChangeIntent:
		if req.IntentCategory == nil {
			return nil, missing("intent_category")
		}
		return func(l *Lead, now time.Time) error {
			l.IntentCategory = *req.IntentCategory
			l.decide(now)
			return nil
		}, nil
	case AssignAll:
		if req.AgentID == nil {
			return nil, missing("agent_id")
		}
		return func(l *Lead, _ time.Time) error {
			l.AssignedAgentID = req.AgentID
			return nil
		}, s.Agents.Check(ctx, *req.AgentID)
	case UpdateField:
		if req.FieldName == nil {
			return nil, missing("field_name")
		}
		return s.bulkField(ctx, *req.FieldName, req.FieldValue)
	default:
		return nil, nil
	}
}

// bulkFields are the fields that a bulk change may write besides those with an action of their own. Not the phone: two leads cannot
// have one number.
var bulkFields = []string{
	"name", "email", "source_campaign", "ad_set", "form_id", "form_name", "google_sheet_row_id", "intent_confidence", "interest_level",
	"callback_scheduled_at", "next_followup_at", "last_contacted_at", "followup_count", "course_interested_in", "payment_link_url",
	"payment_link_sent", "objections", "notes", "conversation_summary",
}

// bulkField returns what a bulk change of one field does with a lead. A name that is not built in is a field of the team.
func (s *Service) bulkField(ctx context.Context, name string, value json.RawMessage) (func(*Lead, time.Time) error, error) {
	if len(value) == 0 {
		value = json.RawMessage("null")
	}
	refused := fault.Fields(fault.BodyField("field_value", "value_error", "Input should be a value of the field "+name))
	sent := func() *string {
		var s *string
		if json.Unmarshal(value, &s) != nil || s == nil {
			return new("")
		}
		return s
	}
	switch {
	case name == "status":
		return s.bulkEdit(ctx, BulkRequest{Action: ChangeStatus, Status: (*Status)(sent())})
	case name == "intent_category":
		if !known(Intents(), Intent(*sent())) {
			return nil, refused
		}
		return s.bulkEdit(ctx, BulkRequest{Action: ChangeIntent, IntentCategory: (*Intent)(sent())})
	case name == "assigned_agent_id" && *sent() != "":
		if !event.ValidID(*sent()) {
			return nil, refused
		}
		return s.bulkEdit(ctx, BulkRequest{Action: AssignAll, AgentID: sent()})
	case name == "assigned_agent_id":
		return func(l *Lead, _ time.Time) error { l.AssignedAgentID = nil; return nil }, nil
	case slices.Contains(bulkFields, name):
		return bulkText(name, value, refused)
	}
	has, err := s.Rules.HasField(ctx, name)
	if err != nil {
		return nil, err
	}
	if !has {
		return nil, fault.Fields(fault.BodyField("field_name", "enum", "Input should be a field of a lead, or one of the setting lead_fields"))
	}
	if wrong, err := s.Rules.Check(ctx, "", Extra{name: value}); err != nil || len(wrong) > 0 {
		return nil, cmp.Or(err, error(refused))
	}
	return func(l *Lead, _ time.Time) error {
		extra := maps.Clone(l.ExtraData)
		extra[name] = value
		l.ExtraData = extra
		return l.valid()
	}, nil
}

func bulkText(name string, value json.RawMessage, refused error) (func(*Lead, time.Time) error, error) {
	raw, err := json.Marshal(map[string]json.RawMessage{name: value})
	if err != nil {
		return nil, refused
	}
	var update UpdateRequest
	if err := json.Unmarshal(raw, &update); err != nil {
		return nil, refused
	}
	edit := func(l *Lead, _ time.Time) error {
		if name, sent := update.Name.Sent(); sent {
			l.Name = text.Of(name)
		}
		update.apply(&l.Fields)
		return l.valid()
	}
	probe := Lead{Fields: Fields{Name: "x"}}
	if edit(&probe, time.Time{}) != nil || probe.FollowUpCount < 0 || probe.IntentConfidence != nil && (*probe.IntentConfidence < 0 || *probe.IntentConfidence > 1) {
		return nil, refused
	}
	return edit, nil
}

// valid cleans the fields, and fails if one is wrong.
func (l *Lead) valid() error {
	fields, wrong := l.cleaned()
	if len(wrong) > 0 {
		return fault.Fields(wrong...)
	}
	l.Fields = fields
	return nil
}
