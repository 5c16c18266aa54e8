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

// JWK is one public key as auth publishes it, RFC 7517 and RFC 8037.
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

// PublicJWK describes a public key.
func PublicJWK(keyID string, key ed25519.PublicKey) JWK {
	return JWK{KeyType: "OKP", Curve: "Ed25519", KeyID: keyID, X: base64.RawURLEncoding.EncodeToString(key), Use: "sig", Algorithm: "EdDSA"}
}

// Remote is the public keys of auth, fetched by an actor. A lookup never waits: while auth is down the old keys stay in
// use for a day, and an unknown key id only asks for a fetch.
type Remote struct {
	url    string
	client *http.Client
	tel    telemetry.Set
	clock  clock.Clock
	keys   atomic.Pointer[keySet]
	ask    chan struct{}
}

// keySet is what auth published at some time.
type keySet struct {
	byID map[string]ed25519.PublicKey
	at   time.Time
}

const (
	refreshEvery = time.Minute
	unknownEvery = 10 * time.Second // at most: anybody can name keys that do not exist
	staleAfter   = 24 * time.Hour   // with auth away for longer, nobody knows which keys have been withdrawn
	firstEvery   = 250 * time.Millisecond
	fetchTimeout = 5 * time.Second
	maxJWKS      = 64 << 10 // bytes
)

// Fetch makes the keys found at url (…/.well-known/jwks.json). Run it as an actor; until its first success there are none.
func Fetch(url string, client *http.Client, tel telemetry.Set) *Remote {
	return &Remote{url: url, client: client, tel: tel, clock: clock.System{}, ask: make(chan struct{}, 1)}
}

// Run keeps the keys fresh until ctx ends.
func (r *Remote) Run(ctx context.Context) error {
	for warned := false; ; {
		err := r.fetch(ctx)
		wait := refreshEvery
		if r.fresh() == nil {
			wait = firstEvery // nothing works without them
		}
		if err != nil && ctx.Err() == nil && !warned {
			r.tel.Log.WarnContext(ctx, "the public keys of auth could not be fetched, trying again", "error", err)
		}
		warned = err != nil
		if !r.pause(ctx, wait) {
			return nil
		}
	}
}

// pause waits until the next fetch is due: after wait, or earlier when somebody asked. It is false when ctx ended.
func (r *Remote) pause(ctx context.Context, wait time.Duration) bool {
	quiet := min(wait, unknownEvery)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(quiet):
	}
	select {
	case <-ctx.Done():
		return false
	case <-r.ask:
	case <-time.After(wait - quiet):
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
	res, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("auth answered %s", res.Status)
	}
	var set JWKS
	if err := json.NewDecoder(io.LimitReader(res.Body, maxJWKS)).Decode(&set); err != nil {
		return fmt.Errorf("read the keys: %w", err)
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

// Ready fails while there are no keys: none has been fetched yet, or none for a day.
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

// Key finds a public key by its id; without any it is ErrNoKeys. An unknown id makes the actor look again soon.
func (r *Remote) Key(keyID string) (ed25519.PublicKey, error) {
	keys := r.fresh()
	if keys == nil {
		return nil, ErrNoKeys
	}
	key, ok := keys[keyID]
	if !ok {
		select {
		case r.ask <- struct{}{}:
		default:
		}
		return nil, errors.New("unknown key id")
	}
	return key, nil
}
