package delivery

import "time"

// schedule is when each attempt is made, counted from the one before. It spans about three days: long enough for a weekend
// of a receiver that is down, short enough that the news is still news.
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
	24 * time.Hour,   // 10  a day without anybody looking
	24 * time.Hour,   // 11  the last
}

const (
	jitter        = 0.1            // of the delay, to both sides, so that a receiver that comes back is not hit by all at once
	maxRetryAfter = 24 * time.Hour // a receiver may not put a delivery off for longer
)

// backoff is how long to wait after that many attempts; ok is false when there is no further one. wobble is 0 to 1.
// A receiver that asks for more time gets it, one that asks for less does not: it would burn its attempts.
func backoff(attempts int, retryAfter time.Duration, wobble float64) (wait time.Duration, ok bool) {
	if attempts >= len(schedule) {
		return 0, false
	}
	wait = time.Duration(float64(schedule[attempts]) * (1 - jitter + 2*jitter*wobble))
	return max(wait, min(retryAfter, maxRetryAfter)), true
}
