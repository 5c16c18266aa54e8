package clock

import "time"

// Stopwatch starts measuring; the function it returns tells how long it has been. Durations come from the monotonic clock
// and are no time of the business, so tests do not decide them.
func Stopwatch() func() time.Duration {
	begin := time.Now()
	return func() time.Duration { return time.Since(begin) }
}
