package access

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/identity"
)

const (
	cacheTTL    = time.Minute // of a verified token; an Ed25519 signature costs about 60 µs to verify
	cacheTokens = 10_000      // in each of two generations
)

// Cache stores the callers of verified tokens by the SHA-256 of the header, for a minute at most and never past a token's expiry.
// So a token is verified once a minute and not for each request. The caller of the cache must check for every request whether
// the session has ended. It is safe for concurrent use.
type Cache struct {
	verify func(*http.Request) (identity.Caller, error)
	clock  clock.Clock

	mu     sync.Mutex
	recent map[[sha256.Size]byte]verified
	older  map[[sha256.Size]byte]verified // replaced by recent when recent is full
}

// verified is a caller without the token's text, which is not stored.
type verified struct {
	caller identity.Caller
	until  time.Time
}

// NewCache returns a cache in front of verify.
func NewCache(verify func(*http.Request) (identity.Caller, error), c clock.Clock) *Cache {
	return &Cache{verify: verify, clock: c, recent: map[[sha256.Size]byte]verified{}}
}

// Authenticate returns the caller of a request. It fails like verify.
func (c *Cache) Authenticate(r *http.Request) (identity.Caller, error) {
	header := r.Header["Authorization"]
	if len(header) != 1 {
		return c.verify(r)
	}
	key, now := digest(header[0]), c.clock.Now()
	if caller, ok := c.find(key, now); ok {
		_, caller.Token, _ = strings.Cut(header[0], " ")
		return caller, nil
	}
	caller, err := c.verify(r)
	if err != nil {
		return identity.Caller{}, err
	}
	v := verified{caller: caller, until: now.Add(cacheTTL)}
	if at := expiry(caller.Token); at.Before(v.until) {
		v.until = at
	}
	v.caller.Token = ""
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store(key, v)
	return caller, nil
}

// digest returns the SHA-256. It does not allocate for texts up to 768 bytes; a token has about 520.
func digest(text string) [sha256.Size]byte {
	var b [768]byte
	return sha256.Sum256(append(b[:0], text...))
}

func (c *Cache) find(key [sha256.Size]byte, now time.Time) (identity.Caller, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.recent[key]
	if !ok {
		if v, ok = c.older[key]; ok {
			c.store(key, v)
		}
	}
	return v.caller, ok && now.Before(v.until)
}

func (c *Cache) store(key [sha256.Size]byte, v verified) {
	if len(c.recent) >= cacheTokens {
		c.older, c.recent = c.recent, map[[sha256.Size]byte]verified{}
	}
	c.recent[key] = v
}

// expiry returns the exp claim of a token whose signature has been verified, or the zero time if it cannot be read.
func expiry(text string) time.Time {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expiry json.Number `json:"exp"`
	}
	if json.Unmarshal(raw, &claims) != nil {
		return time.Time{}
	}
	seconds, err := claims.Expiry.Float64()
	if err != nil {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}
