package token

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// JWK is one public key as served by auth, RFC 7517 and RFC 8037.
type JWK struct {
	KeyType   string `json:"kty"` // OKP
	Curve     string `json:"crv"` // Ed25519
	KeyID     string `json:"kid"`
	X         string `json:"x"` // base64url, 32 bytes
	Use       string `json:"use"`
	Algorithm string `json:"alg"` // EdDSA
}

// JWKS is a set of public keys, the body of /.well-known/jwks.json.
type JWKS struct {
	Keys []JWK `json:"keys"`
}

// PublicJWK returns the JWK of a public key.
func PublicJWK(keyID string, key ed25519.PublicKey) JWK {
	return JWK{KeyType: "OKP", Curve: "Ed25519", KeyID: keyID, X: base64.RawURLEncoding.EncodeToString(key), Use: "sig", Algorithm: "EdDSA"}
}

// Remote is the public keys of auth, fetched periodically by an actor. A lookup never waits: while auth is down, the last keys
// are used for up to a day, and an unknown key id only requests an early fetch. It is safe for concurrent use.
type Remote struct {
	url    string
	client *http.Client
	tel    telemetry.Set
	clock  clock.Clock
	keys   atomic.Pointer[keySet]
	wake   chan struct{}
}

// keySet is the keys that auth served at a time.
type keySet struct {
	byID map[string]ed25519.PublicKey
	at   time.Time
}

const (
	refreshInterval = time.Minute
	minInterval     = 10 * time.Second // for unknown key ids: any client can send them
	staleAfter      = 24 * time.Hour   // if auth is down for longer, a key may have been withdrawn meanwhile
	initialInterval = 250 * time.Millisecond
	fetchTimeout    = 5 * time.Second
	maxJWKS         = 64 << 10 // bytes
)

// Fetch returns the keys served at url (…/.well-known/jwks.json). Run it as an actor; there are no keys until the first fetch.
func Fetch(url string, client *http.Client, c clock.Clock, tel telemetry.Set) *Remote {
	return &Remote{url: url, client: client, tel: tel, clock: c, wake: make(chan struct{}, 1)}
}

// Run fetches the keys periodically until ctx ends.
func (r *Remote) Run(ctx context.Context) error {
	for warned := false; ; {
		err := r.fetch(ctx)
		wait := refreshInterval
		if r.fresh() == nil {
			wait = initialInterval // no token can be verified without keys
		}
		if err != nil && ctx.Err() == nil && !warned {
			r.tel.Log.WarnContext(ctx, "fetch the public keys of auth, retrying", "error", err)
		}
		warned = err != nil
		if !r.await(ctx, wait) {
			return nil
		}
	}
}

// await waits until the next fetch is due: after wait, or earlier if a lookup had an unknown key id. It returns false if ctx
// ended.
func (r *Remote) await(ctx context.Context, wait time.Duration) bool {
	pause := min(wait, minInterval)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
	}
	select {
	case <-ctx.Done():
		return false
	case <-r.wake:
	case <-time.After(wait - pause):
	}
	return true
}

func (r *Remote) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return err
	}
	for name, value := range r.tel.Untraced(ctx) {
		req.Header.Set(name, value)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("auth responded %s", res.Status)
	}
	var set JWKS
	if err := json.NewDecoder(io.LimitReader(res.Body, maxJWKS)).Decode(&set); err != nil {
		return fmt.Errorf("decode the keys: %w", err)
	}
	keys := map[string]ed25519.PublicKey{}
	for _, k := range set.Keys {
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if k.KeyType == "OKP" && k.Curve == "Ed25519" && k.KeyID != "" && err == nil && len(x) == ed25519.PublicKeySize {
			keys[k.KeyID] = x
		}
	}
	if len(keys) == 0 {
		return errors.New("auth published no Ed25519 key")
	}
	r.keys.Store(&keySet{keys, r.clock.Now()})
	return nil
}

// Ready fails with ErrNoKeys if no keys have been fetched yet, or none for a day.
func (r *Remote) Ready(context.Context) error {
	if r.fresh() == nil {
		return ErrNoKeys
	}
	return nil
}

func (r *Remote) fresh() map[string]ed25519.PublicKey {
	set := r.keys.Load()
	if set == nil || r.clock.Now().Sub(set.at) > staleAfter {
		return nil
	}
	return set.byID
}

// Key returns a public key by its id. It fails with ErrNoKeys if there are no keys. An unknown id makes the actor fetch the keys
// again within 10 s.
func (r *Remote) Key(keyID string) (ed25519.PublicKey, error) {
	keys := r.fresh()
	if keys == nil {
		return nil, ErrNoKeys
	}
	key, ok := keys[keyID]
	if !ok {
		select {
		case r.wake <- struct{}{}:
		default:
		}
		return nil, errors.New("unknown key id")
	}
	return key, nil
}
