// Package endpoint owns the receivers of webhooks: their URLs, the filters of their events, and whether they are enabled. It refuses
// to show a URL or a secret: with one, anyone can send events in our name.
package endpoint

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
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
	Paused        = "paused"         // by an admin
	Gone          = "gone"           // it responded with 410
	Failing       = "failing"        // nothing but failures for DisableAfter
	NotConfigured = "not_configured" // PABBLY_WEBHOOK_URL is no longer set
	Deleted       = "deleted"
)

// Endpoint is one receiver of webhooks.
type Endpoint struct {
	ID             string
	URL            string   // its path is a secret: never logged, never shown
	Secrets        []string // newest first
	Description    string
	Events         []string // filters: types, groups such as lead.*, or Everything
	Profile        Profile
	RateLimit      *int // requests per second; nil for no limit
	Enabled        bool
	DisabledReason *string
	Origin         Origin
	// Epoch is the version: each change of what the API shows raises it. The result of an attempt that began under an older epoch does
	// not disable the endpoint.
	Epoch int64
	// PreviousUntil is when the secrets before the newest stop signing; nil if they do not.
	PreviousUntil *time.Time
	CreatedAt     time.Time
	UpdatedAt     time.Time
	DeletedAt     *time.Time // a deleted endpoint has neither URL nor secrets

	Health
}

// Signing returns the secrets that sign, newest first.
func (e Endpoint) Signing(now time.Time) []string {
	if e.PreviousUntil != nil && !now.Before(*e.PreviousUntil) {
		return e.Secrets[:min(1, len(e.Secrets))]
	}
	return e.Secrets
}

// Masked returns the URL without its path and query, which are secret.
func (e Endpoint) Masked() string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return "…"
	}
	return u.Scheme + "://" + u.Host + "/…"
}

// Signature is the value of X-Pabbly-Signature: the hex HMAC-SHA256 of the exact body under the text of a secret.
func Signature(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// Signed reports whether a signature, with or without sha256= before it, is one that the endpoint's secrets make of the body. A previous
// secret counts until the next rotation. It takes the same time for every wrong signature.
func (e Endpoint) Signed(body []byte, signature string) bool {
	sent := []byte(strings.ToLower(strings.TrimPrefix(signature, "sha256=")))
	valid := false
	for _, secret := range e.Secrets {
		valid = hmac.Equal(sent, []byte(Signature(secret, body))) || valid
	}
	return valid
}

// secretBytes is the length of a secret that Standard Webhooks recommends (24 to 64).
const secretBytes = 32

func newSecret() string {
	var key [secretBytes]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	return "whsec_" + base64.StdEncoding.EncodeToString(key[:])
}

// rotate makes a new secret. The one before signs too for the overlap.
func (e *Endpoint) rotate(overlap time.Duration, now time.Time) {
	secrets := []string{newSecret()}
	e.PreviousUntil = nil
	if overlap > 0 {
		until := now.Add(overlap)
		secrets, e.PreviousUntil = append(secrets, e.Secrets[:min(1, len(e.Secrets))]...), &until
	}
	e.Secrets = secrets
	e.changed(now)
}

// changed records a change of what the API shows.
func (e *Endpoint) changed(now time.Time) { e.Epoch, e.UpdatedAt = e.Epoch+1, now }

// Disable disables the endpoint, which holds its deliveries: a waiting delivery is sent only while its endpoint is enabled. One that is
// already disabled retains its reason.
func (e *Endpoint) Disable(reason string, now time.Time) {
	if !e.Enabled {
		return
	}
	e.Enabled, e.DisabledReason = false, &reason
	e.changed(now)
}

// enable enables the endpoint, with a closed breaker.
func (e *Endpoint) enable(now time.Time) {
	if e.Enabled {
		return
	}
	e.Enabled, e.DisabledReason, e.Health = true, nil, Health{}
	e.changed(now)
}

// remove deletes the endpoint with its URL and secrets. Its deliveries remain.
func (e *Endpoint) remove(now time.Time) {
	reason := Deleted
	e.Enabled, e.DisabledReason, e.Origin, e.DeletedAt = false, &reason, API, &now
	e.URL, e.Secrets, e.PreviousUntil = "", nil, nil
	e.changed(now)
}

func fromEnvironment(url, secret string, now time.Time) Endpoint {
	return Endpoint{
		ID: event.NewID(), URL: url, Secrets: []string{secret}, Events: []string{Everything}, Profile: Pabbly,
		Description: "PABBLY_WEBHOOK_URL", Enabled: true, Origin: Environment, CreatedAt: now, UpdatedAt: now,
	}
}

// configure sets the environment's URL and secret. A new URL is a new receiver and enables the endpoint, unless an admin has paused it;
// a receiver that responded with 410 remains disabled.
func (e *Endpoint) configure(url, secret string, now time.Time) {
	moved := e.URL != url
	returned := e.DisabledReason != nil && *e.DisabledReason == NotConfigured
	paused := e.DisabledReason != nil && *e.DisabledReason == Paused
	if !moved && !returned && slices.Equal(e.Secrets, []string{secret}) {
		return
	}
	e.URL, e.Secrets, e.PreviousUntil = url, []string{secret}, nil
	e.changed(now)
	if (moved || returned) && !paused {
		e.enable(now)
	}
}

// checkOwn fails for the endpoint of the environment: its URL and secret are settings, and would be there again at the next start.
func (e *Endpoint) checkOwn() error {
	if e.Origin == Environment && (e.DisabledReason == nil || *e.DisabledReason != NotConfigured) {
		return fault.New(fault.Conflict, "webhook_from_environment", "Its URL and secret are settings of the server, PABBLY_WEBHOOK_URL and PABBLY_WEBHOOK_SECRET: change them there, or pause this webhook")
	}
	return nil
}

// NotFound is the fault of an endpoint that does not exist.
func NotFound() error { return fault.New(fault.NotFound, "webhook_not_found", "Webhook not found") }

// HasFailed reports whether the platform disabled the endpoint, so that somebody has to mend its receiver.
func (e Endpoint) HasFailed() bool {
	return e.DisabledReason != nil && (*e.DisabledReason == Gone || *e.DisabledReason == Failing)
}
