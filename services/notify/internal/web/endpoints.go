package web

import (
	"time"

	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// shownEndpoint is the schema Webhook of the contract.
type shownEndpoint struct {
	ID             string           `json:"id"`
	URL            string           `json:"url"` // masked
	Description    string           `json:"description"`
	Events         []string         `json:"events"`
	Profile        endpoint.Profile `json:"profile"`
	RateLimit      *int             `json:"rate_limit_per_second"`
	Enabled        bool             `json:"enabled"`
	DisabledReason *string          `json:"disabled_reason"`
	Origin         endpoint.Origin  `json:"origin"`
	PreviousUntil  *time.Time       `json:"previous_secret_until"`
	CreatedAt      time.Time        `json:"created_at"`
	UpdatedAt      time.Time        `json:"updated_at"`
}

func endpointOf(e endpoint.Endpoint) shownEndpoint {
	return shownEndpoint{
		ID: e.ID, URL: e.Masked(), Description: e.Description, Events: e.Events, Profile: e.Profile, RateLimit: e.RateLimit, Enabled: e.Enabled,
		DisabledReason: e.DisabledReason, Origin: e.Origin, PreviousUntil: e.PreviousUntil, CreatedAt: e.CreatedAt, UpdatedAt: e.UpdatedAt,
	}
}

func viewEndpoint(e endpoint.Endpoint) any { return endpointOf(e) }

// withSecret is the schema WebhookWithSecret of the contract.
type shownWithSecret struct {
	shownEndpoint
	Secret string `json:"secret,omitempty"`
}

func viewWithSecret(e endpoint.WithSecret) any {
	return shownWithSecret{endpointOf(e.Endpoint), e.Secret}
}

// withoutSecret is the response that is stored for repeated requests: a secret is shown once and stored only sealed.
func withoutSecret(e shownWithSecret) any { return e.shownEndpoint }
