package followup

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/copies"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/crm/internal/timeline"
)

// Call is the copy of a call that calls owns. Its JSON is that of calls' API, from which it may be fetched.
type Call struct {
	ID       string  `json:"id"`
	Version  int64   `json:"-"` // of the call in calls
	AgentID  string  `json:"agent_id"`
	ClientID *string `json:"client_id"`
	LeadID   *string `json:"lead_id"`
	Status   string  `json:"status"` // pending, transcribing, completed, failed
	Deleted  bool    `json:"-"`
	Conversation
}

// Conversation is what is known about the conversation of a call.
type Conversation struct {
	RecordedAt      *time.Time   `json:"recorded_at"`
	CreatedAt       time.Time    `json:"created_at"`
	CalledAt        *time.Time   `json:"-"` // RecordedAt, or else CreatedAt
	DurationSeconds *float64     `json:"duration_seconds"`
	Sentiment       *string      `json:"sentiment"` // positive, neutral, negative
	KeyTopics       []string     `json:"key_topics"`
	Objections      []string     `json:"objections"`
	Talk            *events.Talk `json:"talk"`
}

// dated sets when the call was.
func (c Conversation) dated() Conversation {
	switch {
	case c.RecordedAt != nil:
		c.CalledAt = c.RecordedAt
	case !c.CreatedAt.IsZero():
		c.CalledAt = &c.CreatedAt
	}
	return c
}

// Owner implements copies.Object.
func (c Call) Owner() (agentID string, exists bool) { return c.AgentID, !c.Deleted }

// Calls returns the copies of calls.
func Calls(store copies.Store[Call], fetch copies.Fetch[Call]) copies.Of[Call] {
	dated := func(ctx context.Context, id string) (Call, error) {
		c, err := fetch(ctx, id)
		c.Conversation = c.dated()
		return c, err
	}
	return copies.Of[Call]{Store: store, Fetch: dated, NotFound: CallNotFound, Forbidden: callForbidden}
}

// CallNotFound is the fault of a call that does not exist.
func CallNotFound() error { return fault.New(fault.NotFound, "call_not_found", "Call not found") }

func callForbidden() error {
	return fault.New(fault.Forbidden, "call_forbidden", "This call belongs to another agent")
}

// OnCallChanged copies the state of a call. Follow-ups retain the client and lead that they were created for.
func (s *Service) OnCallChanged(ctx context.Context, e event.Received[events.Call]) error {
	_, _, err := s.copyCall(ctx, e.Data)
	return err
}

// OnCallCompleted also makes suggestions from the call's action items.
func (s *Service) OnCallCompleted(ctx context.Context, e event.Received[events.Call]) error {
	call, news, err := s.copyCall(ctx, e.Data)
	if err != nil || !news {
		return err
	}
	return s.suggest(ctx, call, e.Data)
}

// OnCallDeleted marks the copy as deleted. Follow-ups remain: a promise to a client still has to be fulfilled. Suggestions that
// nobody has touched are no promise.
func (s *Service) OnCallDeleted(ctx context.Context, e event.Received[events.Call]) error {
	c := copyOf(e.Data)
	c.Deleted = true
	client, _, err := s.People.Find(ctx, c.ClientID, nil)
	if err != nil {
		return err
	}
	if client != nil {
		c.ClientID = client
	}
	if err := s.Calls.Upsert(ctx, c); err != nil {
		return err
	}
	if err := s.Timeline.Remove(ctx, c.ID); err != nil {
		return err
	}
	_, err = s.removeUntouched(ctx, c.ID)
	return err
}

// copyCall stores the copy of a call, with the client that a merged one became, and its line in timelines. news is false for an
// event that is not newer than the copy, and for a call of a client or lead that was deleted: its own deletion follows.
func (s *Service) copyCall(ctx context.Context, e events.Call) (c Call, news bool, err error) {
	c = copyOf(e)
	before, exists, err := s.Calls.Find(ctx, c.ID)
	if err != nil {
		return c, false, err
	}
	news = !exists || before.Version < c.Version
	client, lead, err := s.People.Find(ctx, c.ClientID, c.LeadID)
	if err != nil {
		return c, false, err
	}
	present := (client == nil) == (c.ClientID == nil) && (lead == nil) == (c.LeadID == nil)
	if client != nil {
		c.ClientID = client
	}
	if err := s.Calls.Upsert(ctx, c); err != nil || !news {
		return c, false, err
	}
	if !present {
		return c, false, s.Timeline.Remove(ctx, c.ID)
	}
	at := e.CreatedAt
	if e.RecordedAt != nil {
		at = *e.RecordedAt
	}
	return c, true, s.Timeline.Upsert(ctx, timeline.Item{
		ID: c.ID, Kind: timeline.Call, At: at, Version: c.Version, ClientID: c.ClientID, LeadID: c.LeadID, CallID: &c.ID, AgentID: &c.AgentID,
		Title: e.Title, Status: &c.Status,
	})
}

func copyOf(c events.Call) Call {
	return Call{
		ID: c.CallID, Version: c.Version, AgentID: c.AgentID, ClientID: c.ClientID, LeadID: c.LeadID, Status: c.Status,
		Conversation: Conversation{
			RecordedAt: c.RecordedAt, CreatedAt: c.CreatedAt, DurationSeconds: c.DurationSeconds, Sentiment: c.Sentiment,
			KeyTopics: c.KeyTopics, Objections: c.Objections, Talk: c.Talk,
		}.dated(),
	}
}
