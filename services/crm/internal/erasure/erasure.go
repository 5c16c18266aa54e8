// Package erasure owns the record of erasures: who requested the erasure of which person, and which services have confirmed that
// they have nothing about that person anymore. It also carries out crm's own part. It refuses to hold anything personal: a person is
// an id here.
package erasure

import (
	"context"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Self is the name of this service in confirmations.
const Self = "crm"

// Services are the services that must confirm an erasure.
func Services() []string { return []string{"auth", "calls", Self, "notify"} }

// Erasure is the erasure of one person in all services.
type Erasure struct {
	ID             string
	Kind           string // client, lead, agent
	SubjectID      string
	SubjectVersion int64 // the last one
	RequestedBy    string
	RequestedAt    time.Time
	Closed         bool                 // whether every service has confirmed
	Confirmed      map[string]time.Time // by service; Find reads it
	Waiting        map[string]string    // why a service may not erase everything yet, by service; Find reads it
}

// New returns the erasure of a person.
func New(kind, subjectID string, subjectVersion int64, requestedBy string, now time.Time) Erasure {
	return Erasure{ID: event.NewID(), Kind: kind, SubjectID: subjectID, SubjectVersion: subjectVersion, RequestedBy: requestedBy, RequestedAt: now}
}

func (e Erasure) state() events.Erasure {
	return events.Erasure{
		ErasureID: e.ID, Kind: e.Kind, SubjectID: e.SubjectID, SubjectVersion: e.SubjectVersion, RequestedBy: e.RequestedBy, RequestedAt: e.RequestedAt,
	}
}

// Request stores erasures with the events that make every service erase the people.
func Request(ctx context.Context, store Store, erasures ...Erasure) error {
	return store.CreateAll(ctx, erasures, func(e *Erasure) []event.Event {
		return []event.Event{events.ErasureRequested.New(e.RequestedAt, e.state())}
	})
}

// CompletedAt returns when the last service confirmed; nil while one is missing.
func (e Erasure) CompletedAt() *time.Time {
	var last time.Time
	for _, service := range Services() {
		at, ok := e.Confirmed[service]
		if !ok {
			return nil
		}
		if at.After(last) {
			last = at
		}
	}
	return &last
}

// close returns the tombstone of the person's topic once every service has confirmed: none needs the last state anymore. The topic
// of agents belongs to auth; their last state, which has nothing personal, remains there.
func (e *Erasure) close(now time.Time) []event.Event {
	if e.Closed || e.CompletedAt() == nil {
		return nil
	}
	e.Closed = true
	switch e.Kind {
	case events.KindClient:
		return []event.Event{events.ClientDeleted.Tombstone(now, e.SubjectID)}
	case events.KindLead:
		return []event.Event{events.LeadDeleted.Tombstone(now, e.SubjectID)}
	default:
		return nil
	}
}

// NotFound is the fault of an erasure that does not exist, or has not arrived yet.
func NotFound() error { return fault.New(fault.NotFound, "erasure_not_found", "Erasure not found") }

// Store stores erasures. One that does not exist is the fault NotFound.
type Store interface {
	// CreateAll stores erasures with their events, in a constant number of statements. It leaves out those that it has already.
	CreateAll(ctx context.Context, erasures []Erasure, eventsOf func(*Erasure) []event.Event) error
	// Find reads an erasure with its confirmations.
	Find(ctx context.Context, id string) (Erasure, error)
	// Change lets fn change the erasure under a lock, after storing the confirmation of a service, and publishes the events that fn
	// returns. The confirmation is stored even if there is no erasure yet; then Change does no more. The first confirmation counts.
	Change(ctx context.Context, id, service string, doneAt time.Time, fn func(*Erasure) []event.Event) error
}

// Waits stores why services wait.
type Waits interface {
	// Create stores why a service may not erase everything yet. The last reason counts.
	Create(ctx context.Context, w events.ErasureWait) error
}

// Eraser erases what crm has of a person of one kind, in the transaction of ctx. It may run again.
type Eraser interface {
	Remove(ctx context.Context, subjectID string, subjectVersion int64) error
}

// Service carries out crm's part of erasures and records the parts of the others.
type Service struct {
	Erasures Store
	Waits    Waits
	Erasers  map[string]Eraser // by kind
	Clock    clock.Clock
}

// OnErasureRequested erases what crm has of the person, and confirms it.
func (s *Service) OnErasureRequested(ctx context.Context, r event.Received[events.Erasure]) error {
	x := r.Data
	if eraser, ok := s.Erasers[x.Kind]; ok {
		if err := eraser.Remove(ctx, x.SubjectID, x.SubjectVersion); err != nil {
			return err
		}
	}
	entry := Erasure{
		ID: x.ErasureID, Kind: x.Kind, SubjectID: x.SubjectID, SubjectVersion: x.SubjectVersion, RequestedBy: x.RequestedBy, RequestedAt: x.RequestedAt,
	}
	now := s.Clock.Now()
	if err := s.Erasures.CreateAll(ctx, []Erasure{entry}, func(*Erasure) []event.Event { return nil }); err != nil {
		return err
	}
	// Other confirmations may have come before this.
	return s.Erasures.Change(ctx, x.ErasureID, Self, now, func(e *Erasure) []event.Event {
		return append(e.close(now), x.DoneBy(Self, now))
	})
}

// OnErasureDone records the confirmation of another service.
func (s *Service) OnErasureDone(ctx context.Context, r event.Received[events.ErasureConfirmation]) error {
	c := r.Data
	if c.Service == Self {
		return nil
	}
	return s.Erasures.Change(ctx, c.ErasureID, c.Service, c.DoneAt, func(e *Erasure) []event.Event { return e.close(s.Clock.Now()) })
}

// OnErasureWaiting records why another service has not confirmed.
func (s *Service) OnErasureWaiting(ctx context.Context, r event.Received[events.ErasureWait]) error {
	return s.Waits.Create(ctx, r.Data)
}

// IDRequest names one erasure.
type IDRequest struct {
	ID string `path:"id"`
}

// Status is an erasure as the API shows it.
type Status struct {
	ID          string          `json:"id"`
	Kind        string          `json:"kind"`
	SubjectID   string          `json:"subject_id"`
	RequestedBy string          `json:"requested_by"`
	RequestedAt time.Time       `json:"requested_at"`
	CompletedAt *time.Time      `json:"completed_at"` // when the last service confirmed
	Services    []ServiceStatus `json:"services"`
}

// ServiceStatus says whether a service has confirmed.
type ServiceStatus struct {
	Service    string     `json:"service"`
	DoneAt     *time.Time `json:"done_at"`     // null until it has
	WaitingFor *string    `json:"waiting_for"` // why it has not; null if nothing prevents it
}

// Get returns who has confirmed an erasure. It is for admins and for the agent who asked for the erasure; it fails with
// erasure_not_found or erasure_forbidden.
func (s *Service) Get(ctx context.Context, r IDRequest) (Status, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return Status{}, err
	}
	e, err := s.Erasures.Find(ctx, r.ID)
	if err != nil {
		return Status{}, err
	}
	if !caller.MaySee(e.RequestedBy) {
		return Status{}, fault.New(fault.Forbidden, "erasure_forbidden", "Another agent asked for this erasure")
	}
	shown := Status{ID: e.ID, Kind: e.Kind, SubjectID: e.SubjectID, RequestedBy: e.RequestedBy, RequestedAt: e.RequestedAt, CompletedAt: e.CompletedAt()}
	for _, service := range Services() {
		status := ServiceStatus{Service: service}
		if at, ok := e.Confirmed[service]; ok {
			status.DoneAt = &at
		} else if reason, ok := e.Waiting[service]; ok {
			status.WaitingFor = &reason
		}
		shown.Services = append(shown.Services, status)
	}
	return shown, nil
}
