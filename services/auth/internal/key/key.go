// Package key owns the keys that access tokens are signed with. They are stored sealed in the database. One signs; the next one
// is published before it signs its first token, and an old one until its last token has expired. It refuses to create new keys
// when it cannot open the old ones: that would invalidate every token.
package key

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/seal"
)

// ErrSealed means that the signing keys were sealed with another secret.
var ErrSealed = errors.New("SECRET_KEY does not open the signing keys in the database: set the one they were made with, here or as SECRET_KEY_PREVIOUS")

// ErrTooSoon means that the next key has not been published for long enough to sign.
var ErrTooSoon = errors.New("the next signing key was made a moment ago and is not known to every service yet: try again later")

const (
	// RefreshEvery is how often a process reads the keys in the database.
	RefreshEvery = 30 * time.Second
	// PublishedAhead is the minimum time that a key is published before it signs: the other replicas of auth publish it after
	// RefreshEvery, caches store the older set for a minute, and the services fetch it once a minute.
	PublishedAhead = 5 * time.Minute
	// lag is how long a replica may still sign with a key that is already old, including clock skew.
	lag = 5 * time.Minute
)

// purpose makes the sealing key differ from other keys that are derived from SECRET_KEY.
const purpose = "convoflow auth signing keys v1"

// State is what a key is used for.
type State string

// The states of a key, in order. All keys are published.
const (
	Next    State = "next"    // exactly one; signs after a rotation
	Signing State = "signing" // exactly one
	Old     State = "old"     // until the last token that it signed has expired
)

// Key is a signing key as it is stored.
type Key struct {
	ID        string // UUIDv7, the kid of its tokens
	State     State
	Public    ed25519.PublicKey
	Sealed    []byte // the private key's seed
	CreatedAt time.Time
	Since     time.Time     // when it entered its state
	TokenTTL  time.Duration // the longest lifetime of a token that it has signed
}

// Store stores the keys.
type Store interface {
	// Change passes all keys to fn, oldest first, under a lock that all replicas share, and stores exactly those that fn returns.
	Change(ctx context.Context, fn func(keys []Key) ([]Key, error)) ([]Key, error)
}

// Signer signs with one key. It knows the format of tokens.
type Signer interface {
	Sign(c identity.Caller, ttl time.Duration) (string, error)
	// SignText signs a text that is no token, for the purpose alone.
	SignText(purpose string, text []byte) string
}

// Policy is how keys are sealed, rotated and used. Every field but Previous is required.
type Policy struct {
	Signer   func(id string, private ed25519.PrivateKey, c clock.Clock) Signer
	Secret   string        // seals the keys
	Previous string        // opens keys that were sealed with the previous secret; empty for none
	Rotation time.Duration // for how long a key signs
	TokenTTL time.Duration // lifetime of the tokens that this process signs
}

// Ring is the opened keys of a process. It is safe for concurrent use.
type Ring struct {
	store  Store
	box    *seal.Box
	policy Policy
	clock  clock.Clock
	opened atomic.Pointer[opened]
}

// opened is a snapshot of the opened keys.
type opened struct {
	signer Signer
	public map[string]ed25519.PublicKey
	due    time.Time // of the rotation
}

// Load opens the keys in the store. The first replica creates them. It fails with ErrSealed if neither secret opens them.
func Load(ctx context.Context, store Store, p Policy, c clock.Clock) (*Ring, error) {
	box, err := seal.New(p.Secret, p.Previous, purpose)
	if err != nil {
		return nil, err
	}
	r := &Ring{store: store, box: box, policy: p, clock: c}
	return r, r.Refresh(ctx)
}

// Check fails with ErrSealed if a key in the store is opened by neither secret. It changes nothing.
func Check(ctx context.Context, store Store, p Policy) error {
	box, err := seal.New(p.Secret, p.Previous, purpose)
	if err != nil {
		return err
	}
	r := &Ring{box: box}
	_, err = store.Change(ctx, func(keys []Key) ([]Key, error) {
		for _, k := range keys {
			if _, err := r.seed(k); err != nil {
				return nil, err
			}
		}
		return keys, nil
	})
	return err
}

// Refresh reads the keys in the store: it rotates them when due, deletes expired ones, and adopts the changes of other replicas.
// Call it every RefreshEvery.
func (r *Ring) Refresh(ctx context.Context) error {
	return r.change(ctx, func(keys []Key, now time.Time) ([]Key, error) {
		signing, next := find(keys, Signing), find(keys, Next)
		if now.Sub(signing.Since) < r.policy.Rotation || now.Sub(next.Since) < PublishedAhead {
			return keys, nil
		}
		return r.rotate(keys, now)
	})
}

// Remaining returns the time until the signing key is due to be replaced. It is negative while Refresh fails to do that.
func (r *Ring) Remaining() time.Duration { return r.opened.Load().due.Sub(r.clock.Now()) }

// Rotate makes the next key the signing key. It fails with ErrTooSoon if not every service may know that key yet.
func (r *Ring) Rotate(ctx context.Context) error {
	return r.change(ctx, func(keys []Key, now time.Time) ([]Key, error) {
		if now.Sub(find(keys, Next).Since) < PublishedAhead {
			return nil, ErrTooSoon
		}
		return r.rotate(keys, now)
	})
}

// Reseal seals the keys again that were sealed with the previous secret, and returns how many of all these were. Afterwards no
// key needs the previous secret.
func (r *Ring) Reseal(ctx context.Context) (resealed, all int, err error) {
	err = r.change(ctx, func(keys []Key, _ time.Time) ([]Key, error) {
		resealed, all = 0, len(keys)
		for i, k := range keys {
			sealed, changed, err := r.box.Reseal(k.Sealed, k.ID)
			if err != nil {
				return nil, fmt.Errorf("open signing key %s: %w", k.ID, ErrSealed)
			}
			if changed {
				keys[i].Sealed = sealed
				resealed++
			}
		}
		return keys, nil
	})
	return resealed, all, err
}

// change applies fn and all due changes to the keys, and opens the result.
func (r *Ring) change(ctx context.Context, fn func(keys []Key, now time.Time) ([]Key, error)) error {
	keys, err := r.store.Change(ctx, func(keys []Key) ([]Key, error) {
		now := r.clock.Now()
		keys, err := r.complete(slices.Clone(keys), now)
		if err != nil {
			return nil, err
		}
		if keys, err = fn(keys, now); err != nil {
			return nil, err
		}
		return slices.DeleteFunc(keys, func(k Key) bool {
			return k.State == Old && now.Sub(k.Since) > k.TokenTTL+lag
		}), nil
	})
	if err != nil {
		return fmt.Errorf("change the signing keys: %w", err)
	}
	o, err := r.open(keys)
	if err != nil {
		return err
	}
	r.opened.Store(o)
	return nil
}

// complete creates missing keys, refuses keys that it cannot open, and records the lifetime of this process's tokens.
func (r *Ring) complete(keys []Key, now time.Time) ([]Key, error) {
	if len(keys) == 0 {
		first, err := r.generate(Signing, now)
		if err != nil {
			return nil, err
		}
		next, err := r.generate(Next, now)
		return []Key{first, next}, err
	}
	if find(keys, Signing).ID == "" {
		return nil, errors.New("open the signing keys: none of them signs")
	}
	if find(keys, Next).ID == "" {
		next, err := r.generate(Next, now)
		if err != nil {
			return nil, err
		}
		keys = append(keys, next)
	}
	for i, k := range keys {
		if k.State == Signing {
			keys[i].TokenTTL = max(k.TokenTTL, r.policy.TokenTTL)
		}
		if _, err := r.seed(k); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func (r *Ring) rotate(keys []Key, now time.Time) ([]Key, error) {
	for i, k := range keys {
		switch k.State {
		case Signing:
			keys[i].State, keys[i].Since = Old, now
		case Next:
			keys[i].State, keys[i].Since, keys[i].TokenTTL = Signing, now, r.policy.TokenTTL
		case Old: // remains old
		}
	}
	next, err := r.generate(Next, now)
	return append(keys, next), err
}

func (r *Ring) generate(state State, now time.Time) (Key, error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return Key{}, fmt.Errorf("generate a signing key: %w", err)
	}
	id := event.NewID()
	return Key{
		ID: id, State: state, Public: public, Sealed: r.box.Seal(private.Seed(), id), CreatedAt: now, Since: now, TokenTTL: r.policy.TokenTTL,
	}, nil
}

// seed opens a key with whichever secret fits.
func (r *Ring) seed(k Key) ([]byte, error) {
	seed, err := r.box.Open(k.Sealed, k.ID)
	if err != nil {
		return nil, fmt.Errorf("open signing key %s: %w", k.ID, ErrSealed)
	}
	return seed, nil
}

func (r *Ring) open(keys []Key) (*opened, error) {
	o := &opened{public: map[string]ed25519.PublicKey{}}
	for _, k := range keys {
		seed, err := r.seed(k)
		if err != nil {
			return nil, err
		}
		private := ed25519.NewKeyFromSeed(seed)
		if !k.Public.Equal(private.Public()) {
			return nil, fmt.Errorf("open signing key %s: its public half is another key's", k.ID)
		}
		o.public[k.ID] = k.Public
		if k.State == Signing {
			o.due = k.Since.Add(r.policy.Rotation)
			o.signer = r.policy.Signer(k.ID, private, r.clock)
		}
	}
	return o, nil
}

func find(keys []Key, s State) Key {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.State == s })
	if i < 0 {
		return Key{}
	}
	return keys[i]
}

// Sign returns an access token for the caller, with the lifetime of the policy.
func (r *Ring) Sign(c identity.Caller) (string, error) {
	return r.opened.Load().signer.Sign(c, r.policy.TokenTTL)
}

// SignText signs a text that is no token, for the purpose alone.
func (r *Ring) SignText(purpose string, text []byte) string {
	return r.opened.Load().signer.SignText(purpose, text)
}

// Public finds a public key by its id.
func (r *Ring) Public(id string) (ed25519.PublicKey, error) {
	k, ok := r.opened.Load().public[id]
	if !ok {
		return nil, errors.New("unknown key id")
	}
	return k, nil
}

// Published returns the public keys by their ids. The caller must not change the map.
func (r *Ring) Published() map[string]ed25519.PublicKey { return r.opened.Load().public }
