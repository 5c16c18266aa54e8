package guard

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/rpc"
)

const (
	trustFor  = time.Minute // how long a verified token is cached; an Ed25519 signature takes about 60 µs to verify
	maxTokens = 10_000      // in each of two generations
)

// Tokens authenticates callers. It caches verified tokens, by their hash, for at most a minute and never past their expiry.
type Tokens struct {
	verify rpc.Authenticator
	admit  func(identity.Caller) error
	clock  clock.Clock

	mu     sync.Mutex
	recent map[[sha256.Size]byte]verified
	older  map[[sha256.Size]byte]verified // dropped as a whole when recent is full
}

type verified struct {
	caller identity.Caller
	until  time.Time
}

// NewTokens calls verify for tokens that are not cached, and admit on every request: whether the session is still active.
func NewTokens(verify rpc.Authenticator, admit func(identity.Caller) error, c clock.Clock) *Tokens {
	return &Tokens{verify: verify, admit: admit, clock: c, recent: map[[sha256.Size]byte]verified{}}
}

// CallerHandler serves the request of an authenticated caller.
type CallerHandler func(w http.ResponseWriter, r *http.Request, c identity.Caller)

// Require passes only callers with that access to next. It refuses others before the body is read.
func (t *Tokens) Require(access rpc.Access, next CallerHandler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := t.caller(r)
		if err == nil && access == rpc.Admin && !caller.IsAdmin() {
			err = fault.New(fault.Forbidden, "admin_only", "Only an admin may do this")
		}
		if err != nil {
			refuse(w, r, err)
			return
		}
		next(w, r, caller)
	})
}

func (t *Tokens) caller(r *http.Request) (identity.Caller, error) {
	header := r.Header.Values("Authorization")
	if len(header) != 1 {
		return t.verify(r)
	}
	key, now := digest(header[0]), t.clock.Now()
	if caller, ok := t.find(key, now); ok {
		return caller, t.admit(caller)
	}
	caller, err := t.verify(r)
	if err != nil {
		return identity.Caller{}, err
	}
	until := now.Add(trustFor)
	if expiry := expiry(caller.Token); expiry.Before(until) {
		until = expiry
	}
	caller.Token = ""
	t.mu.Lock()
	defer t.mu.Unlock()
	t.store(key, verified{caller, until})
	return caller, nil
}

// digest returns the SHA-256. A token has some 350 bytes, so the buffer stays on the stack.
func digest(text string) [sha256.Size]byte {
	var b [512]byte
	return sha256.Sum256(append(b[:0], text...))
}

func (t *Tokens) find(key [sha256.Size]byte, now time.Time) (identity.Caller, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.recent[key]
	if !ok {
		if v, ok = t.older[key]; ok {
			t.store(key, v)
		}
	}
	return v.caller, ok && now.Before(v.until)
}

func (t *Tokens) store(key [sha256.Size]byte, v verified) {
	if len(t.recent) >= maxTokens {
		t.older, t.recent = t.recent, map[[sha256.Size]byte]verified{}
	}
	t.recent[key] = v
}

// expiry returns the exp claim of a verified token, the zero time if it cannot be parsed.
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

// Signed passes only requests with a signature header. The service, which has the secret, verifies the signature.
func Signed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Pabbly-Signature") == "" {
			refuse(w, r, fault.New(fault.Unauthenticated, "not_signed", "Sign the body: X-Pabbly-Signature is its HMAC-SHA256 in hexadecimal"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
