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

// nextWait returns how long to wait after the n-th failure, counted from 1. It returns false for a permanent failure and after
// the last wait.
func nextWait(cause error, n int, waits []time.Duration) (time.Duration, bool) {
	if !fault.Retryable(cause) || n > len(waits) {
		return 0, false
	}
	return min(max(waits[n-1], fault.Of(cause).RetryAfter), maxRetryAfter), true
}
