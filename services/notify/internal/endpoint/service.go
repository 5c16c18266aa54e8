package endpoint

import (
	"context"
	"fmt"
	"slices"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
)

// Store stores endpoints. One that does not exist is the fault NotFound.
type Store interface {
	// Create ignores a second endpoint from the environment: replicas that start concurrently have the same one.
	Create(ctx context.Context, e Endpoint) error
	// List returns all endpoints, oldest first. There are few.
	List(ctx context.Context) ([]Endpoint, error)
	// Change lets fn change the endpoint under a lock, and saves it with the events that fn returns.
	Change(ctx context.Context, id string, fn func(*Endpoint) ([]event.Event, error)) (Endpoint, error)
}

// Deliveries are the deliveries to an endpoint.
type Deliveries interface {
	// Resume makes the waiting ones of an endpoint that was enabled due at once, in the order of their age. It is idempotent.
	Resume(ctx context.Context, endpointID string) error
}

// Service manages the endpoint of the environment.
type Service struct {
	Endpoints  Store
	Deliveries Deliveries
	Clock      clock.Clock
}

// Seed creates, updates or disables the endpoint of the environment, unless one was created with the API. An empty URL means
// none. It returns how many endpoints are enabled afterwards.
func (s *Service) Seed(ctx context.Context, url, secret string) (enabled int, err error) {
	all, err := s.Endpoints.List(ctx)
	if err != nil {
		return 0, err
	}
	if !slices.ContainsFunc(all, func(e Endpoint) bool { return e.Origin == API }) {
		if err := s.apply(ctx, all, url, secret); err != nil {
			return 0, fmt.Errorf("apply the endpoint of the environment: %w", err)
		}
		if all, err = s.Endpoints.List(ctx); err != nil {
			return 0, err
		}
	}
	for _, e := range all {
		if e.Enabled {
			enabled++
		}
	}
	return enabled, nil
}

// apply configures the endpoint of the environment from the environment; existing is that endpoint or empty.
func (s *Service) apply(ctx context.Context, existing []Endpoint, url, secret string) error {
	now := s.Clock.Now()
	if len(existing) == 0 {
		if url == "" {
			return nil
		}
		return s.Endpoints.Create(ctx, fromEnvironment(url, secret, now))
	}
	wasEnabled := false
	e, err := s.Endpoints.Change(ctx, existing[0].ID, func(e *Endpoint) ([]event.Event, error) {
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
