package delivery

import "time"

// schedule is how long after the previous one each attempt is made. It spans about three days: long enough for a receiver that
// is down over a weekend, short enough that the event still matters.
var schedule = [...]time.Duration{
	0,                //  1  at once
	5 * time.Second,  //  2  a restart, a lost packet
	30 * time.Second, //  3
	2 * time.Minute,  //  4  a deployment
	10 * time.Minute, //  5
	time.Hour,        //  6  an outage
	3 * time.Hour,    //  7
	6 * time.Hour,    //  8
	12 * time.Hour,   //  9
	24 * time.Hour,   // 10  an outage that nobody noticed for a day
	24 * time.Hour,   // 11  the last
}

const jitterShare = 0.1 // of the wait, in both directions, so that a receiver that recovers does not get all at once

// backoff returns how long to wait after that many attempts; ok is false if there is no further one. jitter is 0 to 1. A
// Retry-After lengthens a wait, to twice its length at most, and never shortens it: otherwise the attempts would be used up within
// minutes.
func backoff(attempts int, retryAfter time.Duration, jitter float64) (wait time.Duration, ok bool) {
	if attempts >= len(schedule) {
		return 0, false
	}
	wait = time.Duration(float64(schedule[attempts]) * (1 - jitterShare + 2*jitterShare*jitter))
	return max(wait, min(retryAfter, 2*wait)), true
}
