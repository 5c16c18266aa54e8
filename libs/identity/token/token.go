// Package token signs and verifies access tokens. auth signs them with Ed25519, and all other services verify them with the public
// keys that auth serves. It refuses every token that does not have the one accepted algorithm, type, issuer and audience.
package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// The issuer, audience and type of every access token, RFC 9068.
const (
	Issuer   = "convoflow-auth"
	Audience = "convoflow"
	Type     = "at+jwt"
)

const (
	leeway    = time.Minute // for clock differences between machines; auth signs by its database's clock
	maxLength = 4096        // bytes; ours have about 500
)

// claims are the claims of an access token.
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

// Sign returns a token for the caller that expires after ttl. It ignores the caller's Token and TokenID.
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

// SignText signs a text that is no token. The signature holds for this purpose alone: no token contains the zero byte that follows
// the purpose.
func (s Signer) SignText(purpose string, text []byte) string {
	signature := ed25519.Sign(s.Key, slices.Concat([]byte(purpose), []byte{0}, text))
	return s.KeyID + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// VerifyText checks the output of SignText. It fails with ErrNoKeys if no public keys are available.
func VerifyText(keys Keys, purpose string, text []byte, signature string) error {
	keyID, encoded, _ := strings.Cut(signature, ".")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) != ed25519.SignatureSize {
		return errors.New("not a signature")
	}
	key, err := keys(keyID)
	if err != nil {
		return err
	}
	if !ed25519.Verify(key, slices.Concat([]byte(purpose), []byte{0}, text), raw) {
		return errors.New("the signature is wrong")
	}
	return nil
}

// Keys returns the public key with a key id. It must not block.
type Keys func(keyID string) (ed25519.PublicKey, error)

// ErrNoKeys means that no public keys are available, so no token can be verified.
var ErrNoKeys = errors.New("no public keys yet")

// Verifier verifies access tokens. It is safe for concurrent use.
type Verifier struct {
	keys   Keys
	parser *jwt.Parser
}

// NewVerifier returns a verifier that gets public keys from keys.
func NewVerifier(keys Keys, c clock.Clock) *Verifier {
	return &Verifier{keys: keys, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(Issuer), jwt.WithAudience(Audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway), jwt.WithTimeFunc(c.Now), jwt.WithStrictDecoding(),
	)}
}

// Verify returns the caller that the token belongs to. It fails with an Unauthenticated fault for an invalid token, whatever is
// wrong with it; the fault's cause says what, for the log. It fails with an Unavailable fault if there are no keys.
func (v *Verifier) Verify(text string) (identity.Caller, error) {
	if len(text) > maxLength {
		return identity.Caller{}, invalid(errors.New("too long"))
	}
	if err := strict(text); err != nil {
		return identity.Caller{}, invalid(err)
	}
	var cl claims
	t, err := v.parser.ParseWithClaims(text, &cl, func(t *jwt.Token) (any, error) {
		if t.Header["typ"] != Type {
			return nil, errors.New("not an access token")
		}
		// Keys and links in the token's header, and unknown extensions, are never trusted.
		for _, name := range []string{"jwk", "jku", "x5u", "x5c", "crit"} {
			if _, present := t.Header[name]; present {
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
	case !t.Valid, !event.ValidID(cl.Subject), !event.ValidID(cl.SessionID), !event.ValidID(cl.ID), cl.NotBefore == nil, cl.IssuedAt == nil:
		return identity.Caller{}, invalid(errors.New("a claim is missing"))
	case cl.Role != identity.Agent && cl.Role != identity.Admin:
		return identity.Caller{}, invalid(errors.New("no such role"))
	}
	return identity.Caller{AgentID: cl.Subject, SessionID: cl.SessionID, TokenID: cl.ID, Role: cl.Role, Token: text}, nil
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
