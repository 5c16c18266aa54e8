package delivery

import (
	"context"
	"encoding/json"
	"time"

	"github.com/convoflow/convoflow/libs/page"
)

// Filter selects a page of deliveries, newest first. Nil fields do not filter.
type Filter struct {
	Status     *Status    `query:"status"`
	Event      *string    `query:"event"`
	EndpointID *string    `query:"webhook_id"`
	CallID     *string    `query:"call_id"`
	ReplayID   *string    `query:"replay_id"`
	From       *time.Time `query:"from"` // created then or later
	To         *time.Time `query:"to"`   // created before
	page.Request
}

// List returns a page of deliveries. The route allows admins only.
func (s *Service) List(ctx context.Context, f Filter) (page.Of[Delivery], error) {
	return s.Deliveries.List(ctx, f)
}

// IDRequest names one delivery.
type IDRequest struct {
	ID string `path:"id"`
}

// Detail is a delivery with its payload and every attempt.
type Detail struct {
	Delivery
	Payload json.RawMessage `json:"payload"` // null before the first attempt
	Log     []Attempt       `json:"attempt_log"`
}

// Get returns a delivery. It fails with NotFound.
func (s *Service) Get(ctx context.Context, req IDRequest) (Detail, error) {
	d, err := s.Deliveries.Find(ctx, req.ID)
	if err != nil {
		return Detail{}, err
	}
	return Detail{Delivery: d, Payload: d.Body, Log: d.Log}, nil
}

// Backlog is the number of deliveries with one status other than delivered.
type Backlog struct {
	Status Status
	Count  int64
	Oldest time.Duration // age of the oldest
}
