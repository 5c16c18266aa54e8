package gateway

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/openapi"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Pabbly Connect sends the leads of a whole team from few addresses. Their room is no other operation's.
func TestSignedLeadsHaveALimitOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) {
		c.Rates = Rates{Write: 1, Inbound: 3, AddressFactor: 2}
		c.TrustedProxies = []string{"127.0.0.0/8"}
	})
	from := func(address, path, bearer string) (*http.Response, string) {
		req := f.request(t, http.MethodPost, path, nil)
		req.Header.Set("X-Forwarded-For", address)
		req.Header.Set("X-Pabbly-Signature", "sha256=0")
		if bearer != "" {
			req.Header.Set("Authorization", bearer)
		}
		return do(t, req)
	}
	for left := 2; left >= 0; left-- {
		res, body := from("203.0.113.1", "/leads/inbound", "")
		require.Equal(t, http.StatusOK, res.StatusCode, body)
		require.Equal(t, "3", res.Header.Get("RateLimit-Limit"), "no multiple of it: there is no agent")
		require.Equal(t, strconv.Itoa(left), res.Header.Get("RateLimit-Remaining"))
	}
	res, body := from("203.0.113.1", "/leads/inbound", "")
	requireError(t, res, body, http.StatusTooManyRequests, "rate_limited")
	res, body = from("203.0.113.1", "/leads/inbound", sign(t, f, newCaller()))
	requireError(t, res, body, http.StatusTooManyRequests, "rate_limited")
	res, body = from("203.0.113.2", "/leads/inbound", "")
	require.Equal(t, http.StatusOK, res.StatusCode, "another address: "+body)

	for range 2 { // a signature buys no room for other operations, and leads have used none of theirs
		res, body = from("203.0.113.1", "/leads", sign(t, f, newCaller()))
		require.Equal(t, http.StatusOK, res.StatusCode, body)
	}
	res, body = from("203.0.113.1", "/leads", sign(t, f, newCaller()))
	requireError(t, res, body, http.StatusTooManyRequests, "rate_limited")
	require.Contains(t, f.metrics(t, "convoflow_gateway_rate_limited_total"), `{by="address",class="inbound"} 2`)
}

// By default Pabbly Connect may send its 200 deliveries a second for as long as it likes, after a burst of a minute's.
func TestTheDefaultLimitAdmitsPabbly(t *testing.T) {
	t.Parallel()
	now := clock.At(time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC))
	rates, err := newRates(Defaults().Rates, now, telemetry.Nop())
	require.NoError(t, err)
	handler := rates[openapi.Inbound].PerAddress(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	send := func(n int) (refused int) {
		for range n {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/leads/inbound", nil))
			if w.Code != http.StatusOK {
				refused++
			}
		}
		return refused
	}
	require.Zero(t, send(12_000), "a minute's deliveries at once")
	for range 90 {
		now.Advance(time.Second)
		require.Zero(t, send(200))
	}
	require.NotZero(t, send(30_000), "there is a limit")
}
