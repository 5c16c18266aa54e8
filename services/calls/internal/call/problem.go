package call

import (
	"time"

	"github.com/convoflow/convoflow/libs/fault"
)

// The codes of a failed call. Clients match on them.
const (
	CodeUnreadable  = "audio_unreadable"     // the recording cannot be decoded
	CodeMissing     = "audio_missing"        // the recording is no longer in the bucket
	CodeTooLong     = "audio_too_long"       // longer than the maximum duration
	CodeUnavailable = "provider_unavailable" // the AI provider is down, overloaded or not installed
	CodeQuota       = "provider_quota"       // its account has no quota left
	CodeRejected    = "provider_rejected"    // it refused the key, the model or the request
	CodeInvalid     = "insights_invalid"     // its response does not match the schema
	CodeTimeout     = "timeout"              // it did not respond in time
	CodeBudget      = "budget_exceeded"      // the team's budget of the month is spent
	CodeInterrupted = "interrupted"          // each of its workers died
	CodeInternal    = "internal_error"       // ours: an unforeseen error, or a result that the database refuses
)

// permanent are the codes for which a manual retry is useless: the same recording and settings fail again.
func permanent(code string) bool {
	return code == CodeUnreadable || code == CodeMissing || code == CodeTooLong || code == CodeRejected
}

func problemOf(cause error) Problem {
	f := fault.Of(cause)
	return Problem{Code: f.Code, Message: f.Detail, Retryable: !permanent(f.Code)}
}

// maxRetryAfter is the longest wait that a provider can request.
const maxRetryAfter = 30 * time.Minute

// Shares of a wait that are random, so that calls that failed together are not retried together.
const jitterShare = 0.2

// limited reports whether a provider takes no requests right now.
func limited(cause error) bool { return fault.Is(cause, fault.Limited) }

// minLimitedWait is the wait for a provider that does not say when it takes requests again.
const minLimitedWait = 2 * time.Second

func limitedWait(cause error, jitter float64) time.Duration {
	wait := fault.Of(cause).RetryAfter
	if wait == 0 {
		wait = minLimitedWait
	}
	return lengthened(min(wait, maxRetryAfter), jitter)
}

func lengthened(wait time.Duration, jitter float64) time.Duration {
	return time.Duration(float64(wait) * (1 + jitterShare*jitter))
}

// maxInvalid is how many attempts may end with an answer that cannot be used: each of them was paid for.
const maxInvalid = 3

// nextWait returns how long to wait after the n-th failure, counted from 1. It returns false for a permanent failure and after
// the last wait.
func nextWait(cause error, n int, waits []time.Duration, jitter float64) (time.Duration, bool) {
	if !fault.Retryable(cause) || n > len(waits) || fault.Of(cause).Code == CodeInvalid && n >= maxInvalid {
		return 0, false
	}
	return lengthened(min(max(waits[n-1], fault.Of(cause).RetryAfter), maxRetryAfter), jitter), true
}
