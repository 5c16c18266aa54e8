// Package token proves who is calling: access tokens signed with Ed25519 by auth, verified by everybody else with the
// public keys that auth publishes. Exactly one algorithm, one type, one issuer and one audience are accepted.
package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// What every access token says, RFC 9068.
const (
	Issuer   = "convoflow-auth"
	Audience = "convoflow"
	Type     = "at+jwt"
)

const (
	leeway    = 30 * time.Second // clocks of two machines differ
	maxLength = 4096             // bytes; ours have about 500
)

// claims are those of an access token.
type claims struct {
	jwt.RegisteredClaims
	SessionID string        `json:"sid"`
	Role      identity.Role `json:"role"`
}

// Signer signs access tokens with one key.
type Signer struct {
	KeyID string
	Key   ed25519.PrivateKey
	Clock clock.Clock
}

// Sign makes a token for the caller (its Token and TokenID are ignored) that lives for ttl.
func (s Signer) Sign(c identity.Caller, ttl time.Duration) (string, error) {
	now := s.Clock.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: Issuer, Audience: jwt.ClaimStrings{Audience}, Subject: c.AgentID, ID: event.NewID(),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
		},
		SessionID: c.SessionID, Role: c.Role,
	})
	t.Header["typ"], t.Header["kid"] = Type, s.KeyID
	text, err := t.SignedString(s.Key)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return text, nil
}

// Keys finds the public key of a key id. It must not block for long.
type Keys func(keyID string) (ed25519.PublicKey, error)

// ErrNoKeys says that the public keys could not be had at all, so no token can be judged.
var ErrNoKeys = errors.New("no public keys yet")

// Verifier verifies access tokens.
type Verifier struct {
	keys   Keys
	parser *jwt.Parser
}

// NewVerifier makes a verifier that looks keys up with keys.
func NewVerifier(keys Keys, c clock.Clock) *Verifier {
	return &Verifier{keys: keys, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(Issuer), jwt.WithAudience(Audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway), jwt.WithTimeFunc(c.Now), jwt.WithStrictDecoding(),
	)}
}

// Verify returns who the token belongs to. Any flaw is the same Unauthenticated fault, whose cause says which for the log;
// without keys it is Unavailable.
func (v *Verifier) Verify(text string) (identity.Caller, error) {
	if len(text) > maxLength {
		return identity.Caller{}, invalid(errors.New("too long"))
	}
	var cl claims
	t, err := v.parser.ParseWithClaims(text, &cl, func(t *jwt.Token) (any, error) {
		if t.Header["typ"] != Type {
			return nil, errors.New("not an access token")
		}
		// Keys and links inside the token, and extensions we do not know, are never trusted.
		for _, name := range []string{"jwk", "jku", "x5u", "x5c", "crit"} {
			if _, there := t.Header[name]; there {
				return nil, fmt.Errorf("header %s", name)
			}
		}
		kid, _ := t.Header["kid"].(string)
		return v.keys(kid)
	})
	switch {
	case errors.Is(err, ErrNoKeys):
		return identity.Caller{}, fault.Wrap(err, fault.Unavailable, "auth_unavailable", "Tokens cannot be checked right now, try again").After(2 * time.Second)
	case errors.Is(err, jwt.ErrTokenExpired):
		return identity.Caller{}, fault.Wrap(err, fault.Unauthenticated, "token_expired", "The token has expired: log in again")
	case err != nil:
		return identity.Caller{}, invalid(err)
	case !exact(text):
		return identity.Caller{}, invalid(errors.New("a claim is not spelled as RFC 7519 does"))
	case !t.Valid, !event.ValidID(cl.Subject), !event.ValidID(cl.SessionID), !event.ValidID(cl.ID), cl.NotBefore == nil, cl.IssuedAt == nil:
		return identity.Caller{}, invalid(errors.New("a claim is missing"))
	case cl.Role != identity.Agent && cl.Role != identity.Admin:
		return identity.Caller{}, invalid(errors.New("no such role"))
	}
	return identity.Caller{AgentID: cl.Subject, SessionID: cl.SessionID, TokenID: cl.ID, Role: cl.Role, Token: text}, nil
}

// exact reports whether the claims have exactly their names and types: Go's decoder takes "EXP" for "exp", and the library a
// text for a number.
func exact(text string) bool {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	var cl map[string]json.RawMessage
	if err != nil || json.Unmarshal(raw, &cl) != nil {
		return false
	}
	for _, name := range []string{"iss", "sub", "aud", "jti", "sid", "role"} {
		if len(cl[name]) == 0 {
			return false
		}
	}
	for _, name := range []string{"exp", "nbf", "iat"} {
		if len(cl[name]) == 0 || cl[name][0] < '0' || cl[name][0] > '9' {
			return false
		}
	}
	return true
}

func invalid(cause error) error {
	return fault.Wrap(cause, fault.Unauthenticated, "invalid_token", "The token is not valid: log in again")
}

// Authenticate verifies the bearer token of a request.
func (v *Verifier) Authenticate(r *http.Request) (identity.Caller, error) {
	header := r.Header.Values("Authorization")
	if len(header) == 0 {
		return identity.Caller{}, fault.New(fault.Unauthenticated, "not_authenticated", "Send Authorization: Bearer <token>; log in at POST /auth/login")
	}
	scheme, text, ok := strings.Cut(header[0], " ")
	if len(header) != 1 || !ok || !strings.EqualFold(scheme, "bearer") || text == "" {
		return identity.Caller{}, invalid(errors.New("not one bearer token"))
	}
	return v.Verify(text)
}
