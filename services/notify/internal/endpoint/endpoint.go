// Package endpoint owns the receivers of webhooks: their URLs, which events each wants, and whether it is enabled. It refuses
// to show a URL or a secret: with one, anyone can send events in our name.
package endpoint

import (
	"slices"
	"time"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
)

// Profile is the shape of the payload.
type Profile string

// The profiles.
const (
	Pabbly       Profile = "pabbly"        // flat JSON, whose fields Pabbly Connect maps
	PabblyNested Profile = "pabbly-nested" // {event, timestamp, data}, which workflows of the former system were mapped on
	Standard     Profile = "standard"      // {type, timestamp, data}, as Standard Webhooks describes
)

// Profiles returns all profiles.
func Profiles() []Profile { return []Profile{Pabbly, PabblyNested, Standard} }

// Origin says who created an endpoint.
type Origin string

// The origins. There is at most one endpoint from the environment.
const (
	Environment Origin = "environment"
	API         Origin = "api"
)

// The reasons why an endpoint is disabled.
const (
	Gone          = "gone"           // it responded with 410
	Failing       = "failing"        // nothing but failures for DisableAfter
	NotConfigured = "not_configured" // PABBLY_WEBHOOK_URL is no longer set
)

// Endpoint is one receiver of webhooks.
type Endpoint struct {
	ID             string
	URL            string   // its path is a secret: never logged, never shown
	Secrets        []string // newest first; each of them signs
	Events         []string // filters: types, groups such as lead.*, or Everything
	Profile        Profile
	Enabled        bool
	DisabledReason *string
	Origin         Origin
	Description    string
	RateLimit      *int // requests per second; nil for no limit
	// Epoch is the version: every change of the above raises it. What an attempt learned that began under an older one does not
	// disable the endpoint.
	Epoch     int64
	CreatedAt time.Time
	UpdatedAt time.Time
	DeletedAt *time.Time

	Health
}

// Disable disables the endpoint, which holds its deliveries: a waiting delivery is sent only while its endpoint is enabled. One that
// is already disabled retains its reason.
func (e *Endpoint) Disable(reason string, now time.Time) {
	if !e.Enabled {
		return
	}
	e.Enabled, e.DisabledReason = false, &reason
	e.changed(now)
}

// Enable enables the endpoint, with a closed breaker.
func (e *Endpoint) Enable(now time.Time) {
	if e.Enabled {
		return
	}
	e.Enabled, e.DisabledReason, e.Health = true, nil, Health{}
	e.changed(now)
}

func (e *Endpoint) changed(now time.Time) {
	e.Epoch++
	e.UpdatedAt = now
}

func fromEnvironment(url, secret string, now time.Time) Endpoint {
	return Endpoint{
		ID: event.NewID(), URL: url, Secrets: []string{secret}, Events: []string{Everything}, Profile: Pabbly,
		Enabled: true, Origin: Environment, CreatedAt: now, UpdatedAt: now,
	}
}

// configure sets the environment's URL and secret. A new URL is a new receiver and enables the endpoint; a receiver that
// responded with 410 remains disabled.
func (e *Endpoint) configure(url, secret string, now time.Time) {
	moved := e.URL != url
	returned := e.DisabledReason != nil && *e.DisabledReason == NotConfigured
	if !moved && !returned && slices.Equal(e.Secrets, []string{secret}) {
		return
	}
	e.URL, e.Secrets = url, []string{secret}
	e.changed(now)
	if moved || returned {
		e.Enable(now)
	}
}

// NotFound is the fault of an endpoint that does not exist.
func NotFound() error { return fault.New(fault.NotFound, "webhook_not_found", "Webhook not found") }
