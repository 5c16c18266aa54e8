package delivery

import (
	"context"
	"encoding/json"
	"time"
)

// Filter chooses a page of deliveries, newest first. What is nil does not filter.
type Filter struct {
	Status     *Status    `query:"status"`
	Event      *string    `query:"event"`
	EndpointID *string    `query:"webhook_id"`
	CallID     *string    `query:"call_id"`
	From       *time.Time `query:"from"` // created then or later
	To         *time.Time `query:"to"`   // created before
	Limit      int        `query:"limit"`
	Cursor     string     `query:"cursor"` // from Page.Next
	Skip       int        `query:"skip"`
}

// Page is part of a list.
type Page struct {
	Items []Delivery
	Next  string // cursor of the next page, empty on the last
}

const defaultLimit = 50 // as the HTTP contract says

// List is a page of deliveries. Who may see them is decided by the route: an admin.
func (s *Service) List(ctx context.Context, f Filter) (Page, error) {
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	return s.deliveries.List(ctx, f)
}

// IDRequest names one delivery.
type IDRequest struct {
	ID string `path:"id"`
}

// Detail is a delivery with what is sent and every attempt.
type Detail struct {
	Delivery
	Payload json.RawMessage `json:"payload"` // null before the first attempt
	Log     []Attempt       `json:"attempt_log"`
}

// Get is one delivery.
func (s *Service) Get(ctx context.Context, req IDRequest) (Detail, error) {
	d, err := s.deliveries.Find(ctx, req.ID)
	if err != nil {
		return Detail{}, err
	}
	return Detail{Delivery: d, Payload: d.Body, Log: d.Log}, nil
}

// Backlog is how much there is in one status that is not delivered.
type Backlog struct {
	Status Status
	Count  int64
	Oldest time.Duration // age of the oldest
}
