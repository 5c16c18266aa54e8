package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
	"github.com/convoflow/convoflow/services/notify/internal/seal"
)

// Endpoints keeps endpoints, with their URLs and secrets sealed.
type Endpoints struct {
	db  *pg.DB
	box *seal.Box
}

// NewEndpoints makes the store.
func NewEndpoints(db *pg.DB, box *seal.Box) *Endpoints { return &Endpoints{db, box} }

const endpointColumns = `id::text, url, secrets, events, profile, enabled, disabled_reason, origin, created_at, updated_at`

type endpointRow struct {
	ID             string
	URL            []byte
	Secrets        []byte
	Events         []string
	Profile        endpoint.Profile
	Enabled        bool
	DisabledReason *string
	Origin         endpoint.Origin
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// Create implements endpoint.Store.
func (s *Endpoints) Create(ctx context.Context, e endpoint.Endpoint) error {
	url, secrets, err := s.seal(e)
	if err != nil {
		return err
	}
	_, err = s.db.Conn(ctx).Exec(ctx, `insert into endpoints (id, url, secrets, events, profile, enabled, disabled_reason, origin, created_at, updated_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		on conflict (origin) where origin = 'environment' do nothing`,
		e.ID, url, secrets, e.Events, e.Profile, e.Enabled, e.DisabledReason, e.Origin, e.CreatedAt, e.UpdatedAt)
	if err != nil {
		return fmt.Errorf("insert endpoint %s: %w", e.ID, err)
	}
	return nil
}

// Find implements delivery.Endpoints.
func (s *Endpoints) Find(ctx context.Context, id string) (endpoint.Endpoint, error) {
	return s.one(ctx, `select `+endpointColumns+` from endpoints where id = $1`, id)
}

// List implements endpoint.Store.
func (s *Endpoints) List(ctx context.Context) ([]endpoint.Endpoint, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, `select `+endpointColumns+` from endpoints order by created_at, id`)
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[endpointRow])
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	out := make([]endpoint.Endpoint, len(found))
	for i, r := range found {
		if out[i], err = s.open(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Change implements endpoint.Store.
func (s *Endpoints) Change(ctx context.Context, id string, fn func(*endpoint.Endpoint) error) (e endpoint.Endpoint, err error) {
	err = s.db.InTx(ctx, func(ctx context.Context) error {
		if e, err = s.one(ctx, `select `+endpointColumns+` from endpoints where id = $1 for update`, id); err != nil {
			return err
		}
		if err := fn(&e); err != nil {
			return err
		}
		return s.save(ctx, e)
	})
	return e, err
}

func (s *Endpoints) save(ctx context.Context, e endpoint.Endpoint) error {
	url, secrets, err := s.seal(e)
	if err != nil {
		return err
	}
	_, err = s.db.Conn(ctx).Exec(ctx, `update endpoints set url = $2, secrets = $3, events = $4, profile = $5, enabled = $6, disabled_reason = $7, updated_at = $8 where id = $1`,
		e.ID, url, secrets, e.Events, e.Profile, e.Enabled, e.DisabledReason, e.UpdatedAt)
	if err != nil {
		return fmt.Errorf("update endpoint %s: %w", e.ID, err)
	}
	return nil
}

func (s *Endpoints) one(ctx context.Context, sql, id string) (endpoint.Endpoint, error) {
	rows, err := s.db.Conn(ctx).Query(ctx, sql, id)
	if err != nil {
		return endpoint.Endpoint{}, fmt.Errorf("find endpoint %s: %w", id, err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[endpointRow])
	if pg.NoRows(err) {
		return endpoint.Endpoint{}, endpoint.NotFound()
	}
	if err != nil {
		return endpoint.Endpoint{}, fmt.Errorf("find endpoint %s: %w", id, err)
	}
	return s.open(r)
}

// place is where a sealed column of an endpoint belongs.
func place(id, column string) string { return "endpoints/" + id + "/" + column }

func (s *Endpoints) seal(e endpoint.Endpoint) (url, secrets []byte, err error) {
	list, err := json.Marshal(e.Secrets)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the secrets of endpoint %s: %w", e.ID, err)
	}
	return s.box.Seal([]byte(e.URL), place(e.ID, "url")), s.box.Seal(list, place(e.ID, "secrets")), nil
}

func (s *Endpoints) open(r endpointRow) (endpoint.Endpoint, error) {
	e := endpoint.Endpoint{
		ID: r.ID, Events: r.Events, Profile: r.Profile, Enabled: r.Enabled, DisabledReason: r.DisabledReason, Origin: r.Origin,
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
	url, err := s.box.Open(r.URL, place(r.ID, "url"))
	if err != nil {
		return e, fmt.Errorf("open the URL of endpoint %s: %w", r.ID, err)
	}
	secrets, err := s.box.Open(r.Secrets, place(r.ID, "secrets"))
	if err != nil {
		return e, fmt.Errorf("open the secrets of endpoint %s: %w", r.ID, err)
	}
	e.URL = string(url)
	if err := json.Unmarshal(secrets, &e.Secrets); err != nil {
		return e, fmt.Errorf("read the secrets of endpoint %s: %w", r.ID, err)
	}
	return e, nil
}
