package inbox_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/platform/internal/inbox"
)

// arrived is an event of the stream.
type arrived struct {
	id       string
	HTML     string `json:"html"`
	Failures int    `json:"failures"`
}

// watch reads the stream from that id on. next waits for the next event.
func watch(t *testing.T, in *inbox.Inbox, since string) (next func() arrived) {
	t.Helper()
	srv := httptest.NewServer(in.Handler())
	t.Cleanup(srv.Close)
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop) // before the server waits for its connections
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/inbox/events?since="+since, nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = res.Body.Close() })
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	return func() (a arrived) {
		t.Helper()
		for lines.Scan() {
			if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				a.id = id
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				require.NoError(t, json.Unmarshal([]byte(data), &a))
				return a
			}
		}
		t.Fatal("the stream has ended")
		return a
	}
}

func TestDeliveriesAreShownAsTheyArrive(t *testing.T) {
	t.Parallel()
	in := open(t, filepath.Join(t.TempDir(), "inbox.jsonl"))
	send := func(body string) { deliver(t, in.Handler(), in.Path(), body, sign(body)) }
	send(`{"n":1}`)
	next := watch(t, in, "")
	first := next()
	require.Contains(t, first.HTML, "&#34;n&#34;: 1", "what there was before")
	require.Contains(t, first.HTML, "signatures valid")
	send(`{"n":"<b>2"}`)
	second := next()
	require.Contains(t, second.HTML, "&lt;b&gt;2", "it is HTML")
	require.Contains(t, second.HTML, "attempt 2", "of the same event")
	require.Contains(t, watch(t, in, first.id)().HTML, "&lt;b&gt;2", "a connection that was lost goes on from there")
	require.Contains(t, serve(in.Handler(), get("/inbox", "127.0.0.1:5000")).Body.String(), `data-newest="`+second.id+`"`)
	require.Equal(t, http.StatusForbidden, serve(in.Handler(), get("/inbox/events", "192.0.2.1:5000")).Code)
}

func TestTheNextDeliveriesFail(t *testing.T) {
	t.Parallel()
	in := open(t, filepath.Join(t.TempDir(), "inbox.jsonl"))
	press := func(count, site string) int {
		req := httptest.NewRequest(http.MethodPost, "http://localhost:8000/inbox/fail", strings.NewReader(url.Values{"count": {count}}.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", site)
		req.RemoteAddr = "127.0.0.1:5000"
		return serve(in.Handler(), req).Code
	}
	for _, count := range []string{"", "-1", "21", "many"} {
		require.Equal(t, http.StatusUnprocessableEntity, press(count, "same-origin"), count)
	}
	require.Equal(t, http.StatusForbidden, press("2", "cross-site"), "another page must not press it")
	require.Equal(t, http.StatusSeeOther, press("2", "same-origin"))
	require.Contains(t, serve(in.Handler(), get("/inbox", "127.0.0.1:5000")).Body.String(), "The next <b>2</b> will fail")
	next := watch(t, in, "")
	for i, want := range []int{500, 500, 200} {
		require.Equal(t, want, deliver(t, in.Handler(), in.Path(), "{}", sign("{}")).Code)
		got := next()
		require.Equal(t, max(0, 1-i), got.Failures)
		require.Equal(t, want == 500, strings.Contains(got.HTML, "answered 500"), strconv.Itoa(i))
	}
	list := list(t, in.Handler())
	require.Equal(t, []bool{false, true, true}, []bool{list[0].Failed, list[1].Failed, list[2].Failed}, "newest first")
}
