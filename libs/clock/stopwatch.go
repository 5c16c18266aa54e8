package clock

import "time"

// The functions of this file use the monotonic clock, which measures how long something takes and does not know what time it is.
// Setting the machine's clock does not change it. No business rule depends on it, so tests cannot set it.

// Stopwatch starts measuring and returns a function that returns the time elapsed since.
func Stopwatch() func() time.Duration {
	begin := time.Now()
	return func() time.Duration { return time.Since(begin) }
}

// Deadline returns the end of a timeout that begins now. It is for sockets, whose deadlines the runtime compares with the same clock,
// and for Left.
func Deadline(timeout time.Duration) time.Time { return time.Now().Add(timeout) }

// Left returns how long it is until a Deadline. It is zero or less when the deadline has passed.
func Left(deadline time.Time) time.Duration { return time.Until(deadline) }
