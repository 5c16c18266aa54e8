package guard

import (
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// The rate limit headers of draft-ietf-httpapi-ratelimit-headers-07.
const (
	rateLimit     = "Ratelimit-Limit"     // requests per minute, and the largest burst
	rateRemaining = "Ratelimit-Remaining" // requests that are allowed now
	rateReset     = "Ratelimit-Reset"     // seconds until the full limit is available again
)

// Rate limits one class of operations, per agent and per client address.
type Rate struct {
	agents, addresses *buckets
	limited           *prometheus.CounterVec
	class             string
}

// NewRate returns a limit of requests per minute; 0 is no limit. limited counts refusals by class and by kind of limit.
func NewRate(class string, perAgent, perAddress int, limited *prometheus.CounterVec, c clock.Clock) *Rate {
	return &Rate{agents: newBuckets(perAgent, c), addresses: newBuckets(perAddress, c), limited: limited, class: class}
}

// NewLimited returns the counter of refusals.
func NewLimited() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "convoflow_gateway_rate_limited_total", Help: "Requests refused with 429 by class of the operation and by whose limit: agent or address.",
	}, []string{"class", "by"})
}

// PerAddress limits the calls of next per client address. It comes before the token is verified.
func (r *Rate) PerAddress(next http.Handler) http.Handler {
	take := r.taker("address", r.addresses)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if take(w, req, network(req.Header.Get(forwardedFor))) {
			next.ServeHTTP(w, req)
		}
	})
}

// PerAgent limits the calls of next per agent.
func (r *Rate) PerAgent(next CallerHandler) CallerHandler {
	take := r.taker("agent", r.agents)
	return func(w http.ResponseWriter, req *http.Request, c identity.Caller) {
		if take(w, req, c.AgentID) {
			next(w, req, c)
		}
	}
}

// taker returns a function that takes a token from the key's bucket and sets the rate limit headers. It refuses the request
// and returns false when the bucket is empty.
func (r *Rate) taker(by string, b *buckets) func(w http.ResponseWriter, req *http.Request, key string) bool {
	if b == nil {
		return func(http.ResponseWriter, *http.Request, string) bool { return true }
	}
	refused := r.limited.WithLabelValues(r.class, by)
	return func(w http.ResponseWriter, req *http.Request, key string) bool {
		left := b.take(key)
		h := w.Header()
		h[rateLimit] = b.limit
		if h[rateRemaining] == nil { // otherwise the values of an earlier limit are overwritten
			values := make([]string, 2) // one allocation for both
			h[rateRemaining], h[rateReset] = values[:1:1], values[1:]
		}
		h[rateRemaining][0] = strconv.Itoa(max(0, int(left)))
		h[rateReset][0] = strconv.Itoa(b.seconds(float64(b.perMinute) - left))
		if left >= 0 {
			return true
		}
		refused.Inc()
		wait := time.Duration(b.seconds(-left)) * time.Second
		refuse(w, req, fault.New(fault.Limited, "rate_limited", "Too many requests: wait before you send more").After(wait))
		return false
	}
}

// network returns the key of an address: an IPv4 address itself, or the /64 of an IPv6 subscriber.
func network(address string) string {
	if !strings.Contains(address, ":") {
		return address
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	return netip.PrefixFrom(ip.Unmap(), 64).Masked().String()
}

const maxBuckets = 50_000 // in each of two generations, about 10 MB in all: clients can vary their addresses

// buckets are token buckets by key. The least recently used are evicted, and start full when they are used again.
type buckets struct {
	perMinute int
	limit     []string // perMinute as a header value
	clock     clock.Clock

	mu            sync.Mutex
	recent, older map[string]*rate.Limiter
}

func newBuckets(perMinute int, c clock.Clock) *buckets {
	if perMinute == 0 {
		return nil
	}
	return &buckets{perMinute: perMinute, limit: []string{strconv.Itoa(perMinute)}, clock: c, recent: map[string]*rate.Limiter{}}
}

// take takes a token and returns how many are left; a negative number is what is missing for one token.
func (b *buckets) take(key string) (left float64) {
	now := b.clock.Now()
	bucket := b.of(key)
	if bucket.AllowN(now, 1) {
		return max(0, bucket.TokensAt(now))
	}
	return min(bucket.TokensAt(now)-1, -math.SmallestNonzeroFloat64)
}

func (b *buckets) of(key string) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	bucket, ok := b.recent[key]
	if ok {
		return bucket
	}
	if bucket, ok = b.older[key]; !ok {
		bucket = rate.NewLimiter(rate.Limit(float64(b.perMinute)/60), b.perMinute)
	}
	if len(b.recent) >= maxBuckets {
		b.older, b.recent = b.recent, map[string]*rate.Limiter{}
	}
	b.recent[key] = bucket
	return bucket
}

// seconds returns how long that many tokens take to refill.
func (b *buckets) seconds(tokens float64) int {
	return int(math.Ceil(tokens * 60 / float64(b.perMinute)))
}
