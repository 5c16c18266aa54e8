// Package issuer replaces auth in benchmarks that need only its keys: it signs access tokens and publishes the public key.
package issuer

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
)

const (
	keyID    = "bench"
	tokenTTL = time.Hour // longer than a run
)

// Issuer signs tokens with one key. It serves GET /.well-known/jwks.json and GET /ready, and is safe for concurrent use.
type Issuer struct {
	http.Handler
	signer token.Signer
}

// New returns an issuer with a new key.
func New() (*Issuer, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	keys, err := json.Marshal(token.JWKS{Keys: []token.JWK{token.PublicJWK(keyID, public)}})
	if err != nil {
		return nil, fmt.Errorf("encode the keys: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(keys) })
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	return &Issuer{mux, token.Signer{KeyID: keyID, Key: private, Clock: clock.System{}}}, nil
}

// Token returns a token of a new session of the agent, valid for an hour.
func (i *Issuer) Token(agentID string) (string, error) {
	return i.signer.Sign(identity.Caller{AgentID: agentID, SessionID: event.NewID(), Role: identity.Agent}, tokenTTL)
}

// AdminToken is Token of an admin.
func (i *Issuer) AdminToken(agentID string) (string, error) {
	return i.signer.Sign(identity.Caller{AgentID: agentID, SessionID: event.NewID(), Role: identity.Admin}, tokenTTL)
}
