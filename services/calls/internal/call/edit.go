package call

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/patch"
	"github.com/convoflow/convoflow/libs/text"
)

// CreateRequest is a call without a recording. The fields are validated against the contract.
type CreateRequest struct {
	Parties
	CallTag    string     `json:"call_tag"`
	CallType   string     `json:"call_type"`
	RecordedAt *time.Time `json:"recorded_at"`
	Notes      *string    `json:"notes"`
}

// EnsureCreate is EnsureParties for a call without a recording.
func (s *Service) EnsureCreate(ctx context.Context, req CreateRequest) error {
	return s.EnsureParties(ctx, req.Parties)
}

// Create writes a call without a recording. It fails like Upload.
func (s *Service) Create(ctx context.Context, req CreateRequest) (Call, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Call{}, err
	}
	now := s.Clock.Now()
	details := UploadRequest{CallTag: req.CallTag, CallType: req.CallType, RecordedAt: req.RecordedAt}.details(now)
	details.Notes = text.Trimmed(req.Notes)
	if details.ClientID, details.LeadID, err = s.parties(ctx, caller, req.Parties); err != nil {
		return Call{}, err
	}
	c, events := WithoutRecording(event.NewID(), caller.AgentID, details, now)
	return c, s.Calls.Create(ctx, c, events...)
}

// UpdateRequest changes what people say about a call. A field that is null is removed.
type UpdateRequest struct {
	ID       string              `path:"id" json:"-"`
	ClientID patch.Field[string] `json:"client_id"`
	LeadID   patch.Field[string] `json:"lead_id"`
	Title    patch.Field[string] `json:"title"`
	Notes    patch.Field[string] `json:"notes"`
	// Speakers are by the labels of the segments.
	Speakers map[string]SpeakerUpdate `json:"speakers"`
}

func (r UpdateRequest) parties() (p Parties) {
	r.ClientID.Apply(&p.ClientID)
	r.LeadID.Apply(&p.LeadID)
	return p
}

// EnsureUpdate is EnsureParties for a change.
func (s *Service) EnsureUpdate(ctx context.Context, req UpdateRequest) error {
	return s.EnsureParties(ctx, req.parties())
}

// Update changes a call in any status. It fails with call_not_found, call_forbidden, a field for a speaker that the call does not have,
// or like Upload.
func (s *Service) Update(ctx context.Context, req UpdateRequest) (Call, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Call{}, err
	}
	named := req.parties()
	clientID, leadID, err := s.parties(ctx, caller, named)
	if err != nil {
		return Call{}, err
	}
	return s.Calls.ChangeParties(ctx, req.ID, Parties{ClientID: clientID, LeadID: leadID}, func(c *Call) ([]event.Event, error) {
		if err := checkAccess(ctx, c.AgentID); err != nil {
			return nil, err
		}
		return c.edit(func() error {
			d := &c.Details
			req.ClientID.Apply(&d.ClientID)
			req.LeadID.Apply(&d.LeadID)
			if named.ClientID != nil {
				d.ClientID = clientID // which the named one was merged into
			}
			if named.LeadID != nil {
				d.LeadID = leadID
			}
			req.Title.Apply(&d.Title)
			req.Notes.Apply(&d.Notes)
			d.Title, d.Notes = text.Trimmed(d.Title), text.Trimmed(d.Notes)
			return c.nameSpeakers(req.Speakers)
		}, s.Clock.Now())
	})
}

// LinkRequest names the lead of a call; null removes it.
type LinkRequest struct {
	ID     string              `path:"id" json:"-"`
	LeadID patch.Field[string] `json:"lead_id"`
}

func (r LinkRequest) update() UpdateRequest { return UpdateRequest{ID: r.ID, LeadID: r.LeadID} }

// EnsureLink is EnsureParties for the lead of a call.
func (s *Service) EnsureLink(ctx context.Context, req LinkRequest) error {
	return s.EnsureUpdate(ctx, req.update())
}

// Link sets the lead of a call. It fails like Update.
func (s *Service) Link(ctx context.Context, req LinkRequest) (Call, error) {
	return s.Update(ctx, req.update())
}
