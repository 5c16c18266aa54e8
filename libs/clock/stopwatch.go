package clock

import "time"

// Stopwatch starts measuring and returns a function that returns the time elapsed since. It uses the monotonic clock, and no
// business rule depends on it, so tests cannot set it.
func Stopwatch() func() time.Duration {
	begin := time.Now()
	return func() time.Duration { return time.Since(begin) }
}
