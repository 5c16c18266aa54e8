package agent

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/convoflow/convoflow/libs/fault"
)

const (
	freeFailures = 5                // wrong passwords without a delay; after the 6th there is one
	longestDelay = 15 * time.Minute // of an account in one network
	// accountDelay is the longest delay of an account for everybody: a stranger must not be able to lock its owner out.
	accountDelay = 2 * time.Second
	// addressDelay is the longest delay of an address, which many people may share. A password of one account is guessed no slower
	// with a longer one; addressSlack more failures than of an account are without a delay, because they are of many accounts.
	addressDelay = time.Minute
	addressSlack = 20
	// KnownFor is how long a network from which somebody has logged in to an account is exempt from accountDelay.
	KnownFor = 90 * 24 * time.Hour
	// renewKnown is how old the last login from a network must be for the next one to be recorded.
	renewKnown = 24 * time.Hour
	// FailureWindow is how long after the last wrong password the count starts again at zero. It is longer than the longest
	// delay, so that an attacker cannot reset the count by waiting for it.
	FailureWindow = time.Hour
)

// Delays are how long the next attempt must wait, indexed by the number of wrong passwords in a row: nothing up to 5 of them,
// then 2 s, 4 s, 8 s up to 15 min. The last one also holds for every higher number.
func Delays() []time.Duration {
	delays := make([]time.Duration, freeFailures+1)
	for d := 2 * time.Second; d < longestDelay; d *= 2 {
		delays = append(delays, d)
	}
	return append(delays, longestDelay)
}

// Attempt is one attempt to authenticate with a password. Its keys are HMACs of the account, the client's network, or both.
type Attempt struct {
	Place   []byte // key of the account in the client's network
	Account []byte // key of the account, wherever the client is
	Address []byte // key of the client's address, whatever the account is; nil when unknown
	At      time.Time

	Wait    time.Duration // until an attempt may begin; 0 if this one has begun
	Failed  bool          // whether one of the keys has failures
	Counted [][]byte      // keys that have counted this attempt as wrong in advance, so that concurrent ones have to wait
	KnownAt time.Time     // when somebody last logged in to the account from the network; zero if not within KnownFor
}

// Limit is a key that counts an attempt, with its longest delay. Slack is how many more failures than Delays says have none.
type Limit struct {
	Key     []byte
	Longest time.Duration
	Slack   int
}

// MaxFailures is the highest count of failures that makes a difference.
func MaxFailures() int { return len(Delays()) + addressSlack }

// Limits returns the keys that count the attempt: all that exist. In a network from which somebody has logged in to the account,
// only the account in this network counts it: what strangers do at the same address must not lock the owner out.
func (a Attempt) Limits() []Limit {
	limits := []Limit{{Key: a.Place, Longest: longestDelay}}
	if !a.KnownAt.IsZero() {
		return limits
	}
	limits = append(limits, Limit{Key: a.Account, Longest: accountDelay})
	if a.Address != nil {
		limits = append(limits, Limit{Key: a.Address, Longest: addressDelay, Slack: addressSlack})
	}
	return limits
}

// attempt begins an attempt. While one of its keys has to wait, it fails with a Limited fault that says for how long. kind and
// name identify what the password is for; accounts that do not exist are counted too.
func (s *Service) attempt(ctx context.Context, kind, name string) (Attempt, error) {
	ip := deviceOf(ctx).IP
	a := Attempt{Place: s.attemptKey(kind+" in a network", name+"\x00"+prefixOf(ip, 24)), Account: s.attemptKey(kind, name), At: s.Clock.Now()}
	if address := prefixOf(ip, 32); address != "" {
		a.Address = s.attemptKey("address", address)
	}
	a, err := s.Attempts.Create(ctx, a)
	if err == nil && a.Wait > 0 {
		wait := time.Duration(math.Ceil(a.Wait.Seconds())) * time.Second
		err = fault.New(fault.Limited, "too_many_attempts", "Too many wrong passwords: wait before you try again").After(wait)
	}
	return a, err
}

func (s *Service) attemptKey(kind, name string) []byte {
	mac := hmac.New(sha256.New, s.AttemptSecret)
	mac.Write([]byte(kind + "\x00" + name))
	return mac.Sum(nil)
}

// prefixOf returns the IPv4 network of that many bits, or the IPv6 /64 of one subscriber; empty if there is no address.
func prefixOf(ip string, bits int) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	if !addr.Is4() {
		bits = 64
	}
	return netip.PrefixFrom(addr, bits).Masked().String()
}

// HasCounted reports whether the key has counted the attempt in advance.
func (a Attempt) HasCounted(key []byte) bool {
	return slices.ContainsFunc(a.Counted, func(c []byte) bool { return bytes.Equal(c, key) })
}
