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
	freeFailures = 5                // wrong passwords without a delay; the 6th has one
	longestDelay = 15 * time.Minute // nobody is ever shut out for longer
	// FailureWindow is for how long a wrong password counts after the last one. It is longer than the longest delay, so that
	// waiting for it does not make a guesser new.
	FailureWindow = time.Hour
)

// Delays is how long to wait after so many wrong passwords in a row: none after 5 of them, then 2 s, 4 s, 8 s up to 15 min.
// The last one is that of all further ones.
func Delays() []time.Duration {
	delays := make([]time.Duration, freeFailures+1)
	for d := 2 * time.Second; d < longestDelay; d *= 2 {
		delays = append(delays, d)
	}
	return append(delays, longestDelay)
}

// Attempt is one try of a password. Its keys name an account and an address for nobody but this service.
type Attempt struct {
	Account []byte // what the password is for
	Address []byte // who tries; nil when nobody knows
	At      time.Time

	Wait    time.Duration // until an attempt may begin; 0 when this one has begun
	Known   bool          // one of the keys has wrong passwords
	Counted [][]byte      // keys for which this attempt counts as a wrong one already, so that others at the same time wait
}

// Keys are those that the attempt has.
func (a Attempt) Keys() [][]byte {
	if a.Address == nil {
		return [][]byte{a.Account}
	}
	return [][]byte{a.Account, a.Address}
}

// attempt begins to try a password, or says with a Limited fault when one may. kind and name say what it is for; the same
// is counted for an account that does not exist.
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

// networkOf is what counts as one address: an IPv4 address, or the /64 that one IPv6 subscriber has.
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

// HasCounted reports whether the attempt counts for a key already.
func (a Attempt) HasCounted(key []byte) bool {
	return slices.ContainsFunc(a.Counted, func(c []byte) bool { return bytes.Equal(c, key) })
}
