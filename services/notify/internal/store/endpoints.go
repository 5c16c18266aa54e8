package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/page"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/table"
	"github.com/convoflow/convoflow/libs/seal"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// endpoints implements endpoint.Store and delivery.Endpoints on the table endpoints.
type endpoints struct {
	table *table.Table[endpointRow]
	box   *seal.Box
}

// endpointRow is an endpoint as it is stored: its URL and secrets are sealed, and the endpoint has neither until they are opened.
type endpointRow struct {
	endpoint.Endpoint
	url     []byte
	secrets []byte // a JSON array, newest first
}

// Endpoints returns the store of endpoints.
func Endpoints(db *pg.DB, out *outbox.Outbox, box *seal.Box) *endpoints {
	type row = endpointRow
	return &endpoints{box: box, table: table.New(db, out, table.Spec[row]{
		Name: "endpoints",
		Columns: func(r *row) table.Columns {
			return table.Columns{
				table.Fixed("id", &r.ID), table.Col("url", &r.url), table.Col("secrets", &r.secrets), table.Col("description", &r.Description),
				table.Col("events", &r.Events), table.Col("profile", &r.Profile), table.Col("rate_limit_per_second", &r.RateLimit),
				table.Col("enabled", &r.Enabled), table.Col("disabled_reason", &r.DisabledReason), table.Col("origin", &r.Origin),
				table.Col("epoch", &r.Epoch), table.Col("previous_secrets_until", &r.PreviousUntil), table.Fixed("created_at", &r.CreatedAt),
				table.Col("updated_at", &r.UpdatedAt), table.Col("deleted_at", &r.DeletedAt),
				table.Col("failures", &r.Failures), table.Remaining("failing_since", &r.FailedSince),
				table.Remaining("next_probe_at", &r.ProbeIn), table.Remaining("next_send_at", &r.SendIn),
			}
		},
		Order:   table.Newest(func(r row) time.Time { return r.CreatedAt }, func(r row) string { return r.ID }),
		Missing: endpoint.NotFound,
	})}
}

// Create writes an endpoint. It ignores a second one from the environment.
func (s *endpoints) Create(ctx context.Context, e endpoint.Endpoint) error {
	r := endpointRow{Endpoint: e}
	if err := s.seal(&r); err != nil {
		return err
	}
	_, err := s.table.Create(ctx, &r, "on conflict (origin) where origin = 'environment' do nothing")
	return err
}

// Find reads an endpoint.
func (s *endpoints) Find(ctx context.Context, id string) (endpoint.Endpoint, error) {
	r, err := s.table.Find(ctx, id)
	if err == nil {
		err = s.open(&r)
	}
	return r.Endpoint, err
}

// List reads all endpoints that are not deleted, oldest first.
func (s *endpoints) List(ctx context.Context) ([]endpoint.Endpoint, error) {
	found, err := s.ListPage(ctx, page.All())
	slices.Reverse(found.Items)
	return found.Items, err
}

// ListPage reads a page of them, newest first.
func (s *endpoints) ListPage(ctx context.Context, req page.Request) (page.Of[endpoint.Endpoint], error) {
	var w table.Where
	w.And("deleted_at is null")
	rows, err := s.table.List(ctx, w, req)
	if err != nil {
		return page.Of[endpoint.Endpoint]{}, err
	}
	for i := range rows.Items {
		if err := s.open(&rows.Items[i]); err != nil {
			return page.Of[endpoint.Endpoint]{}, err
		}
	}
	return page.Map(rows, func(r endpointRow) endpoint.Endpoint { return r.Endpoint }), nil
}

// Change changes an endpoint. What is sealed is written again only if it changed: during a release, replicas that do not have the
// newest SECRET_KEY go on reading it.
func (s *endpoints) Change(ctx context.Context, id string, fn func(*endpoint.Endpoint) ([]event.Event, error)) (endpoint.Endpoint, error) {
	r, err := s.table.Change(ctx, id, func(r *endpointRow) ([]event.Event, error) {
		if err := s.open(r); err != nil {
			return nil, err
		}
		url, secrets := r.URL, slices.Clone(r.Secrets)
		events, err := fn(&r.Endpoint)
		if err != nil {
			return nil, err
		}
		if r.URL == url && slices.Equal(r.Secrets, secrets) {
			return events, nil
		}
		return events, s.seal(r)
	})
	return r.Endpoint, err
}

// Reseal seals the endpoints again that were sealed with the previous secret, and returns how many of all these were.
func (s *endpoints) Reseal(ctx context.Context) (resealed, all int, err error) {
	rows, err := s.table.List(ctx, table.Where{}, page.All())
	if err != nil {
		return 0, 0, err
	}
	for _, r := range rows.Items {
		var changed bool
		_, err := s.table.Change(ctx, r.ID, func(r *endpointRow) ([]event.Event, error) {
			changed, err = s.reseal(r)
			return nil, err
		})
		if err != nil {
			return resealed, len(rows.Items), err
		}
		if changed {
			resealed++
		}
	}
	return resealed, len(rows.Items), nil
}

func (s *endpoints) reseal(r *endpointRow) (changed bool, err error) {
	for column, sealed := range map[string]*[]byte{"url": &r.url, "secrets": &r.secrets} {
		again, is, err := s.box.Reseal(*sealed, place(r.ID, column))
		if err != nil {
			return false, fmt.Errorf("open the %s of endpoint %s: %w", column, r.ID, err)
		}
		*sealed, changed = again, changed || is
	}
	return changed, nil
}

// place names a sealed column of an endpoint, to which its ciphertext is bound.
func place(id, column string) string { return "endpoints/" + id + "/" + column }

func (s *endpoints) seal(r *endpointRow) error {
	secrets, err := json.Marshal(r.Secrets)
	if err != nil {
		return fmt.Errorf("encode the secrets of endpoint %s: %w", r.ID, err)
	}
	r.url, r.secrets = s.box.Seal([]byte(r.URL), place(r.ID, "url")), s.box.Seal(secrets, place(r.ID, "secrets"))
	return nil
}

func (s *endpoints) open(r *endpointRow) error {
	url, err := s.box.Open(r.url, place(r.ID, "url"))
	if err != nil {
		return fmt.Errorf("open the URL of endpoint %s: %w", r.ID, err)
	}
	secrets, err := s.box.Open(r.secrets, place(r.ID, "secrets"))
	if err != nil {
		return fmt.Errorf("open the secrets of endpoint %s: %w", r.ID, err)
	}
	r.URL = string(url)
	if err := json.Unmarshal(secrets, &r.Secrets); err != nil {
		return fmt.Errorf("read the secrets of endpoint %s: %w", r.ID, err)
	}
	return nil
}
