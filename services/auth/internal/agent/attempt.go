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
	longestDelay = 15 * time.Minute // the longest time that an account can be locked
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

// Attempt is one attempt to authenticate with a password. Its keys are HMACs of an account and an address.
type Attempt struct {
	Account []byte // key of the account
	Address []byte // key of the client's address; nil when unknown
	At      time.Time

	Wait    time.Duration // until an attempt may begin; 0 if this one has begun
	Known   bool          // whether one of the keys has failures
	Counted [][]byte      // keys that have counted this attempt as wrong in advance, so that concurrent ones have to wait
}

// Keys returns the keys that are not nil.
func (a Attempt) Keys() [][]byte {
	if a.Address == nil {
		return [][]byte{a.Account}
	}
	return [][]byte{a.Account, a.Address}
}

// attempt begins an attempt. While the account or address has to wait, it fails with a Limited fault that says for how long.
// kind and name identify what the password is for; accounts that do not exist are counted too.
func (s *Service) attempt(ctx context.Context, kind, name string) (Attempt, error) {
	a := Attempt{Account: s.attemptKey(kind, name), At: s.Clock.Now()}
	if network := networkOf(deviceOf(ctx).IP); network != "" {
		a.Address = s.attemptKey("address", network)
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

// networkOf returns the network that counts as one address: an IPv4 address, or the IPv6 /64 of one subscriber.
func networkOf(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}

// HasCounted reports whether the key has counted the attempt in advance.
func (a Attempt) HasCounted(key []byte) bool {
	return slices.ContainsFunc(a.Counted, func(c []byte) bool { return bytes.Equal(c, key) })
}
