// Package key owns the keys that access tokens are signed with. They lie sealed in the database; two are published and one
// of them signs, so that everybody knows the next key before its first token arrives. It refuses to make new keys where it
// cannot open the old ones: that would end every login.
package key

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
)

// ErrSealed says that SECRET_KEY is not the one that the signing keys were sealed with.
var ErrSealed = errors.New("SECRET_KEY does not open the signing keys in the database: set the one they were made with")

// State is what a key is used for.
type State string

// The states of a key. All keys are published.
const (
	Signing State = "signing" // exactly one
	Next    State = "next"    // signs after a rotation
)

// Key is a signing key as it is kept.
type Key struct {
	ID        string // UUIDv7, the kid of its tokens
	State     State
	Public    ed25519.PublicKey
	Sealed    []byte // the private key's seed
	CreatedAt time.Time
}

// Store keeps the keys.
type Store interface {
	// Change gives all keys to fn, oldest first, under a lock that all replicas share, keeps those that fn adds and returns
	// all.
	Change(ctx context.Context, fn func(keys []Key) (added []Key, err error)) ([]Key, error)
}

// Ring is the opened keys of a process. It is safe for concurrent use.
type Ring struct {
	signer token.Signer
	public map[string]ed25519.PublicKey
	set    token.JWKS
}

// Load opens the keys in the store with the secret. The first replica of all makes them. A secret that does not open them
// is ErrSealed.
func Load(ctx context.Context, store Store, secret string, c clock.Clock) (*Ring, error) {
	s, err := newSeal(secret)
	if err != nil {
		return nil, err
	}
	keys, err := store.Change(ctx, func(keys []Key) ([]Key, error) {
		if len(keys) > 0 {
			return nil, nil
		}
		return generate(s, c.Now(), Signing, Next)
	})
	if err != nil {
		return nil, fmt.Errorf("load the signing keys: %w", err)
	}
	return open(s, keys, c)
}

func generate(s seal, now time.Time, states ...State) ([]Key, error) {
	var keys []Key
	for _, state := range states {
		public, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, fmt.Errorf("generate a signing key: %w", err)
		}
		id := contract.NewID()
		keys = append(keys, Key{ID: id, State: state, Public: public, Sealed: s.close(private.Seed(), id), CreatedAt: now})
	}
	return keys, nil
}

func open(s seal, keys []Key, c clock.Clock) (*Ring, error) {
	r := &Ring{public: map[string]ed25519.PublicKey{}}
	for _, k := range keys {
		seed, err := s.open(k.Sealed, k.ID)
		if err != nil {
			return nil, fmt.Errorf("open signing key %s: %w", k.ID, err)
		}
		private := ed25519.NewKeyFromSeed(seed)
		if !k.Public.Equal(private.Public()) {
			return nil, fmt.Errorf("open signing key %s: its public half is another key's", k.ID)
		}
		r.public[k.ID] = k.Public
		r.set.Keys = append(r.set.Keys, token.PublicJWK(k.ID, k.Public))
		if k.State == Signing {
			r.signer = token.Signer{KeyID: k.ID, Key: private, Clock: c}
		}
	}
	if r.signer.Key == nil {
		return nil, errors.New("open the signing keys: none of them signs")
	}
	return r, nil
}

// Sign makes an access token for the caller that lives for ttl.
func (r *Ring) Sign(c identity.Caller, ttl time.Duration) (string, error) {
	return r.signer.Sign(c, ttl)
}

// Public finds a public key by its id.
func (r *Ring) Public(id string) (ed25519.PublicKey, error) {
	k, ok := r.public[id]
	if !ok {
		return nil, errors.New("unknown key id")
	}
	return k, nil
}

// JWKSRequest asks for the public keys.
type JWKSRequest struct{}

// JWKS is the public keys, as /.well-known/jwks.json shows them.
func (r *Ring) JWKS(context.Context, JWKSRequest) (token.JWKS, error) { return r.set, nil }
