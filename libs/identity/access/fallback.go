package access

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const (
	// fetchAfter is how long the topic may be unavailable before the sessions are fetched from auth, and how long they are used.
	fetchAfter = 5 * time.Second
	// maxAge is how old the knowledge of ended sessions may be. It is also how long a logged-out token may go on working if
	// neither Kafka nor auth can be reached.
	maxAge = time.Minute

	checkEvery    = time.Second            // whether the topic is unavailable
	firstEvery    = 250 * time.Millisecond // the same, while nothing is known and requests are refused
	maxPage       = 1 << 20                // bytes; MaxRevocations entries have about half of it
	maxPages      = 200                    // a million entries
	warnAfterFail = 3                      // a process that starts together with auth fails once or twice
)

// fallback fetches the ended sessions from auth while their topic cannot be read.
type fallback struct {
	url       string
	client    *http.Client
	keys      token.Keys
	stale     func() time.Duration // for how long the topic may have had events that this process has not seen
	ended     *ended
	stopwatch func() func() time.Duration
	tel       telemetry.Set

	since    string // the position in the list of auth; empty for its beginning
	failures int    // in a row
	answered atomic.Pointer[func() time.Duration]
}

const forever = time.Duration(1<<63 - 1)

// age returns how old the knowledge of ended sessions is, whichever source it is from: forever if there is none.
func (f *fallback) age() time.Duration {
	age := f.stale()
	if age > 0 {
		age = min(age, f.answerAge())
	}
	return age
}

// answerAge returns the time since the request for the last complete list was sent.
func (f *fallback) answerAge() time.Duration {
	if since := f.answered.Load(); since != nil {
		return (*since)()
	}
	return forever
}

// Run fetches the sessions whenever that is necessary, until ctx ends.
func (f *fallback) Run(ctx context.Context) error {
	for {
		f.check(ctx)
		wait := checkEvery
		if f.age() > maxAge {
			wait = firstEvery
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// check fetches the sessions if the topic is unavailable and the last answer is too old, and once at the start: the topic may have
// been lost and created again, without the sessions that ended before. It logs once when both are unavailable, and once when that ends.
func (f *fallback) check(ctx context.Context) {
	var err error
	away := f.stale() > fetchAfter
	switch {
	case !away && f.answered.Load() != nil:
		f.since = "" // the next outage begins with the whole list
	case f.answerAge() < fetchAfter:
		return
	default:
		err = f.fetch(ctx)
	}
	if err != nil {
		if !away {
			return
		}
		if f.failures++; f.failures == warnAfterFail && ctx.Err() == nil {
			f.tel.Log.WarnContext(ctx, "the ended sessions can be read neither from Kafka nor from auth: callers are refused when the last answer is too old",
				"max_age", maxAge, "error", err)
		}
		return
	}
	if f.failures >= warnAfterFail {
		f.tel.Log.InfoContext(ctx, "the ended sessions can be read again")
	}
	f.failures = 0
}

// fetch reads what is new in the list of auth.
func (f *fallback) fetch(ctx context.Context) error {
	since := f.stopwatch()
	for range maxPages {
		l, err := f.page(ctx)
		if err != nil {
			return err
		}
		for _, e := range l.Entries {
			f.ended.set(e.ID, mark{version: e.Version, refused: e.Revoked})
		}
		f.since = l.Next
		if !l.More {
			f.answered.Store(&since)
			return nil
		}
	}
	return errors.New("the list of ended sessions has no end")
}

func (f *fallback) page(ctx context.Context) (l Revocations, err error) {
	query := url.Values{"nonce": {rand.Text()}}
	if f.since != "" {
		query.Set("since", f.since)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+"?"+query.Encode(), nil)
	if err != nil {
		return l, err
	}
	for name, value := range f.tel.Untraced(ctx) {
		req.Header.Set(name, value)
	}
	res, err := f.client.Do(req)
	if err != nil {
		return l, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return l, fmt.Errorf("auth responded %s", res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	if err != nil {
		return l, fmt.Errorf("read the revocations: %w", err)
	}
	return openRevocations(f.keys, body, res.Header.Get(SignatureHeader), query.Get("nonce"))
}
