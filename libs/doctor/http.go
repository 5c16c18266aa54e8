package doctor

import (
	"context"
	"net/http"
	"time"
)

const (
	checkTimeout = 10 * time.Second // of one dependency
	// MaxSkew is how much the clocks of two machines may differ.
	MaxSkew = 5 * time.Second
)

// CheckHTTP checks that an address answers with a status, or with any if that is 0, and compares the clocks.
func (r *Report) CheckHTTP(ctx context.Context, part, url string, status int) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	do := "check its setting, that it runs, and that it can be reached from here"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		r.Fail(part, do, "%s is not a URL", url)
		return
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fail(part, do, "%v", err)
		return
	}
	_ = res.Body.Close()
	if status != 0 && res.StatusCode != status {
		r.Fail(part, do, "%s answers %s", url, res.Status)
		return
	}
	if then, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		if skew := then.Sub(r.Clock.Now()); skew.Abs() > MaxSkew {
			r.Warn(part, "synchronize both machines with NTP", "its clock differs from this machine's by %s", skew.Round(time.Second))
			return
		}
	}
	r.OK(part, "%s answers", url)
}
