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
	cacheTime   = time.Minute // of a verified token; an Ed25519 signature costs about 60 µs to verify
	cacheTokens = 10_000      // in each of two generations
)

// Cache remembers verified tokens by their SHA-256, for a minute at most and never past their expiry, so that a token is
// verified once and not with each request. Whether the session of a token has ended must be checked on every request. It is
// safe for concurrent use.
type Cache struct {
	verify func(*http.Request) (identity.Caller, error)
	clock  clock.Clock

	mu     sync.Mutex
	recent map[[sha256.Size]byte]verified
	older  map[[sha256.Size]byte]verified // dropped as a whole when recent is full
}

// verified is a caller without the token's text, which is not stored.
type verified struct {
	caller identity.Caller
	until  time.Time
}

// NewCache makes a cache in front of verify.
func NewCache(verify func(*http.Request) (identity.Caller, error), c clock.Clock) *Cache {
	return &Cache{verify: verify, clock: c, recent: map[[sha256.Size]byte]verified{}}
}

// Authenticate says whose token a request carries. It fails as verify does.
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
	v := verified{caller: caller, until: now.Add(cacheTime)}
	if at := expiry(caller.Token); at.Before(v.until) {
		v.until = at
	}
	v.caller.Token = ""
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store(key, v)
	return caller, nil
}

// digest is SHA-256. A token has some 350 bytes, which need no allocation.
func digest(text string) [sha256.Size]byte {
	var b [512]byte
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

// expiry is the exp of a token whose signature has been verified, the zero time if it cannot be read.
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
