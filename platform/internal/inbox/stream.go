package inbox

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/rpc"
)

// shown is a delivery as shown on the page.
type shown struct {
	Delivery
	Pretty  string
	Headers []header
	TraceID string
	Attempt int // of the same event, from 1
}

type header struct{ Name, Value string }

// contents is what the page shows.
type contents struct {
	HasButton  bool
	Lead       string // the id of the lead that the button has just sent, or why it was refused
	Failures   int    // how many of the next deliveries fail
	Newest     string // the id of the newest delivery in the stream of events
	Deliveries []shown
}

// rows returns the deliveries after a time, oldest first.
func (in *Inbox) rows(after time.Time) []shown {
	all := in.newestFirst()
	slices.Reverse(all)
	attempts, rows := map[string]int{}, []shown{}
	for _, d := range all {
		attempts[d.EventID]++
		if !d.ReceivedAt.After(after) {
			continue
		}
		row := shown{Delivery: d, Pretty: pretty(d.Body), TraceID: TraceID(d.Headers["Traceparent"]), Attempt: attempts[d.EventID]}
		for name, value := range d.Headers {
			row.Headers = append(row.Headers, header{name, value})
		}
		slices.SortFunc(row.Headers, func(a, b header) int { return strings.Compare(a.Name, b.Name) })
		rows = append(rows, row)
	}
	return rows
}

// newest returns the id of the newest of the rows in the stream of events: when it was received. It is valid after a restart too.
func newest(rows []shown) string {
	latest := time.Time{}
	for _, row := range rows {
		if row.ReceivedAt.After(latest) {
			latest = row.ReceivedAt
		}
	}
	if latest.IsZero() {
		return ""
	}
	return strconv.FormatInt(latest.UnixNano(), 10)
}

// watch sends each delivery as it arrives, as the HTML of its row: the page shows it and knows nothing else.
func (in *Inbox) watch(w http.ResponseWriter, r *http.Request) {
	since := time.Time{}
	if ns, err := strconv.ParseInt(cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("since")), 10, 64); err == nil {
		since = time.Unix(0, ns)
	}
	wake := make(chan struct{}, 1)
	in.mu.Lock()
	in.watchers[wake] = true
	in.mu.Unlock()
	_ = rpc.ServeEvents(w, r, rpc.Source{
		Wake: wake,
		Next: func(context.Context) (messages []rpc.Message, err error) {
			for _, row := range in.rows(since) {
				var html bytes.Buffer
				if err := in.page.ExecuteTemplate(&html, "delivery", row); err != nil {
					return nil, err
				}
				since = row.ReceivedAt
				messages = append(messages, rpc.Message{ID: newest([]shown{row}), Name: "delivery", Data: map[string]any{"html": html.String(), "failures": in.toFail()}})
			}
			return messages, nil
		},
		Close: func() {
			in.mu.Lock()
			defer in.mu.Unlock()
			delete(in.watchers, wake)
		},
	}, func() bool { return true }) // the client has disconnected
}

// maxFailures is how many deliveries the page can make fail at once.
const maxFailures = 20

// fail makes the next deliveries fail.
func (in *Inbox) fail(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("count"))
	if err != nil || n < 0 || n > maxFailures {
		http.Error(w, "count is 0 to "+strconv.Itoa(maxFailures), http.StatusUnprocessableEntity)
		return
	}
	in.mu.Lock()
	in.failures = n
	in.mu.Unlock()
	http.Redirect(w, r, "/inbox", http.StatusSeeOther)
}

func (in *Inbox) toFail() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.failures
}

// takeFailure reports whether the delivery that has arrived is to fail.
func (in *Inbox) takeFailure() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.failures == 0 {
		return false
	}
	in.failures--
	return true
}
