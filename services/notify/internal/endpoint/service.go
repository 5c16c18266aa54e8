package endpoint

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/patch"
)

// Store stores endpoints. One that does not exist is the fault NotFound.
type Store interface {
	// Create ignores a second endpoint from the environment: replicas that start concurrently have the same one.
	Create(ctx context.Context, e Endpoint) error
	// Find reads an endpoint, also a deleted one.
	Find(ctx context.Context, id string) (Endpoint, error)
	// List returns all endpoints that are not deleted, oldest first. There are few.
	List(ctx context.Context) ([]Endpoint, error)
	// ListPage returns a page of them, newest first.
	ListPage(ctx context.Context, req page.Request) (page.Of[Endpoint], error)
	// Change lets fn change the endpoint under a lock, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Endpoint) ([]event.Event, error)) (Endpoint, error)
}

// Deliveries are the deliveries to an endpoint.
type Deliveries interface {
	// Resume makes the waiting ones of an endpoint that was enabled due at once, in the order of their age. It is idempotent.
	Resume(ctx context.Context, endpointID string) error
	// Discard ends the waiting ones of endpoints that were deleted.
	Discard(ctx context.Context) error
}

// Service manages endpoints.
type Service struct {
	Endpoints  Store
	Deliveries Deliveries
	CheckURL   func(url string) error // says what is wrong with a URL, without repeating it
	Clock      clock.Clock
}

// CreateRequest is a new endpoint. Omitted fields have the defaults of the contract.
type CreateRequest struct {
	URL         string   `json:"url"`
	Description string   `json:"description"`
	Events      []string `json:"events"`
	Profile     Profile  `json:"profile"`
	Enabled     *bool    `json:"enabled"`
	RateLimit   *int     `json:"rate_limit_per_second"`
}

// WithSecret is an endpoint whose newest secret the caller gets to see, once.
type WithSecret struct {
	Endpoint
	Secret string
}

// Create creates an endpoint with a new secret.
func (s *Service) Create(ctx context.Context, req CreateRequest) (WithSecret, error) {
	if err := s.Refuse(ctx, req); err != nil {
		return WithSecret{}, err
	}
	now := s.Clock.Now()
	e := Endpoint{
		ID: event.NewID(), URL: req.URL, Secrets: []string{newSecret()}, Description: req.Description, Events: req.Events, Profile: req.Profile,
		RateLimit: req.RateLimit, Enabled: true, Origin: API, CreatedAt: now, UpdatedAt: now,
	}
	if len(e.Events) == 0 {
		e.Events = []string{Everything}
	}
	if e.Profile == "" {
		e.Profile = Pabbly
	}
	if req.Enabled != nil && !*req.Enabled {
		e.Disable(Paused, now)
	}
	return WithSecret{e, e.Secrets[0]}, s.Endpoints.Create(ctx, e)
}

// Refuse fails with the fields of a new endpoint that Create refuses.
func (s *Service) Refuse(_ context.Context, req CreateRequest) error { return s.checkURL(req.URL) }

// RefuseUpdate fails with the fields that Update refuses.
func (s *Service) RefuseUpdate(_ context.Context, req UpdateRequest) error {
	if req.URL == nil {
		return nil
	}
	return s.checkURL(*req.URL)
}

func (s *Service) checkURL(url string) error {
	if err := s.CheckURL(url); err != nil {
		return fault.Fields(fault.BodyField("url", "value_error", "URL "+err.Error()))
	}
	return nil
}

// List returns a page of the endpoints, newest first.
func (s *Service) List(ctx context.Context, req page.Request) (page.Of[Endpoint], error) {
	return s.Endpoints.ListPage(ctx, req)
}

// IDRequest names one endpoint.
type IDRequest struct {
	ID string `path:"id"`
}

// Get returns an endpoint. It fails with NotFound.
func (s *Service) Get(ctx context.Context, req IDRequest) (Endpoint, error) {
	e, err := s.Endpoints.Find(ctx, req.ID)
	if err == nil && e.DeletedAt != nil {
		err = NotFound()
	}
	return e, err
}

// UpdateRequest has the fields of an endpoint to change. An omitted field does not change.
type UpdateRequest struct {
	ID          string           `path:"id"`
	URL         *string          `json:"url"`
	Description *string          `json:"description"`
	Events      []string         `json:"events"`
	Profile     *Profile         `json:"profile"`
	Enabled     *bool            `json:"enabled"`
	RateLimit   patch.Field[int] `json:"rate_limit_per_second"` // null: no limit
}

// Update changes an endpoint. Pausing it holds its deliveries, and enabling it resumes them. It fails with NotFound,
// webhook_from_environment or precondition_failed.
func (s *Service) Update(ctx context.Context, req UpdateRequest) (Endpoint, error) {
	if err := s.RefuseUpdate(ctx, req); err != nil {
		return Endpoint{}, err
	}
	e, err := s.change(ctx, req.ID, func(e *Endpoint) error {
		if req.URL != nil {
			if err := e.checkOwn(); err != nil {
				return err
			}
		}
		req.apply(e)
		now := s.Clock.Now()
		e.changed(now)
		switch {
		case req.Enabled == nil:
		case *req.Enabled:
			e.enable(now)
		default:
			e.Disable(Paused, now)
		}
		return nil
	})
	if err == nil && req.Enabled != nil && e.Enabled {
		err = s.Deliveries.Resume(ctx, e.ID)
	}
	return e, err
}

func (r UpdateRequest) apply(e *Endpoint) {
	if r.URL != nil {
		e.URL = *r.URL
	}
	if r.Description != nil {
		e.Description = *r.Description
	}
	if r.Events != nil {
		e.Events = r.Events
	}
	if r.Profile != nil {
		e.Profile = *r.Profile
	}
	r.RateLimit.Apply(&e.RateLimit)
}

// change changes an endpoint that is not deleted, in the version that the caller expects.
func (s *Service) change(ctx context.Context, id string, fn func(*Endpoint) error) (Endpoint, error) {
	return s.Endpoints.Change(ctx, id, func(e *Endpoint) ([]event.Event, error) {
		if e.DeletedAt != nil {
			return nil, NotFound()
		}
		if err := patch.Check(ctx, e.Epoch); err != nil {
			return nil, err
		}
		return nil, fn(e)
	})
}

// Delete deletes an endpoint with its URL and secrets. What it has not received ends as dead. It fails with NotFound or
// webhook_from_environment.
func (s *Service) Delete(ctx context.Context, req IDRequest) (struct{}, error) {
	_, err := s.change(ctx, req.ID, func(e *Endpoint) error {
		if err := e.checkOwn(); err != nil {
			return err
		}
		e.remove(s.Clock.Now())
		return nil
	})
	if err == nil {
		err = s.Deliveries.Discard(ctx)
	}
	return struct{}{}, err
}

// RotateRequest requests a new secret.
type RotateRequest struct {
	ID           string `path:"id"`
	OverlapHours *int   `json:"overlap_hours"` // how long the secret before signs too; 24 if omitted
}

// Rotate gives an endpoint a new secret. It fails with NotFound or webhook_from_environment.
func (s *Service) Rotate(ctx context.Context, req RotateRequest) (WithSecret, error) {
	overlap := defaultOverlap
	if req.OverlapHours != nil {
		overlap = time.Duration(*req.OverlapHours) * time.Hour
	}
	e, err := s.change(ctx, req.ID, func(e *Endpoint) error {
		if err := e.checkOwn(); err != nil {
			return err
		}
		e.rotate(overlap, s.Clock.Now())
		return nil
	})
	if err != nil {
		return WithSecret{}, err
	}
	return WithSecret{e, e.Secrets[0]}, nil
}

const defaultOverlap = 24 * time.Hour

// Seed creates, updates or disables the endpoint of the environment. It creates none if there are other endpoints: from then on they are
// managed with the API. An empty URL means none. It returns how many endpoints are enabled afterwards.
func (s *Service) Seed(ctx context.Context, url, secret string) (enabled int, err error) {
	all, err := s.Endpoints.List(ctx)
	if err != nil {
		return 0, err
	}
	if err := s.apply(ctx, all, url, secret); err != nil {
		return 0, fmt.Errorf("apply the endpoint of the environment: %w", err)
	}
	if all, err = s.Endpoints.List(ctx); err != nil {
		return 0, err
	}
	for _, e := range all {
		if e.Enabled {
			enabled++
		}
	}
	return enabled, nil
}

// apply configures the endpoint of the environment from the environment.
func (s *Service) apply(ctx context.Context, all []Endpoint, url, secret string) error {
	now := s.Clock.Now()
	i := slices.IndexFunc(all, func(e Endpoint) bool { return e.Origin == Environment })
	if i < 0 {
		if url == "" || len(all) > 0 {
			return nil
		}
		return s.Endpoints.Create(ctx, fromEnvironment(url, secret, now))
	}
	wasEnabled := false
	e, err := s.Endpoints.Change(ctx, all[i].ID, func(e *Endpoint) ([]event.Event, error) {
		wasEnabled = e.Enabled
		if url == "" {
			e.Disable(NotConfigured, now)
		} else {
			e.configure(url, secret, now)
		}
		return nil, nil
	})
	if err != nil || !e.Enabled || wasEnabled {
		return err
	}
	return s.Deliveries.Resume(ctx, e.ID)
}
