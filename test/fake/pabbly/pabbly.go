// Package pabbly is a fake Pabbly Connect: it receives webhooks on a secret URL, responds as Pabbly does, stores every delivery
// and lists its problems: signatures, canonical form, flatness, keys that change. Its failures can be scripted, per event type.
// It never retries and never refuses a delivery for its content, because Pabbly does neither.
package pabbly

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/test/fake/script"
)

// Any stands for every event type, in Script, Always, Block and WaitFor. A step for the event's own type has priority.
const Any = "*"

// Delivery is one request as received, before its response.
type Delivery struct {
	Time     time.Time
	Event    string // X-Pabbly-Event
	EventID  string // event_id of the body; of the standard profile, which has none, webhook-id
	Header   http.Header
	Body     []byte   // the exact bytes
	Problems []string // violations of the contract in events.md
}

// Server is the receiver. It is safe for concurrent use.
type Server struct {
	script.Queue
	clock      clock.Clock
	path, url  string
	deliveries script.Log[Delivery]

	mu     sync.Mutex
	secret string
	first  map[string]shape  // by event type
	ids    map[string]string // webhook-id by event id
}

// New returns a receiver for the caller to serve at Path. With an empty secret, signatures are not verified; now determines the
// age of a signature.
func New(secret string, now clock.Clock) *Server {
	return &Server{
		clock:  now,
		path:   "/workflow/sendwebhookdata/" + rand.Text() + "_pc",
		secret: secret,
		first:  map[string]shape{},
		ids:    map[string]string{},
	}
}

// Start serves a receiver on loopback until the test ends.
func Start(t testing.TB, secret string) *Server {
	t.Helper()
	s := New(secret, clock.System{})
	s.url = script.Start(t, s) + s.path
	return s
}

// URL returns the webhook's URL; its path is the secret. It is empty for a receiver of New.
func (s *Server) URL() string { return s.url }

// Path returns the secret path of the URL.
func (s *Server) Path() string { return s.path }

// SetSecret changes the secret with which later signatures are verified.
func (s *Server) SetSecret(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secret = secret
}

// Deliveries returns all requests so far, in order of arrival.
func (s *Server) Deliveries() []Delivery { return s.deliveries.All() }

// ByEventID groups the deliveries: a group of two is a duplicate or a retry.
func (s *Server) ByEventID() map[string][]Delivery {
	groups := map[string][]Delivery{}
	for _, d := range s.Deliveries() {
		groups[d.EventID] = append(groups[d.EventID], d)
	}
	return groups
}

// WaitFor returns the deliveries of an event type once at least n have arrived, and fails the test after script.Timeout. Their
// responses may not be sent yet.
func (s *Server) WaitFor(t testing.TB, event string, n int) []Delivery {
	t.Helper()
	return of(event, s.deliveries.WaitFor(t, atLeast(n, event)))
}

// Wait is WaitFor, but waits until ctx ends.
func (s *Server) Wait(ctx context.Context, event string, n int) ([]Delivery, error) {
	all, err := s.deliveries.Wait(ctx, atLeast(n, event))
	return of(event, all), err
}

// RequireValid fails the test if any delivery so far violates the contract.
func (s *Server) RequireValid(t testing.TB) {
	t.Helper()
	for i, d := range s.Deliveries() {
		if len(d.Problems) > 0 {
			t.Errorf("delivery %d (%s %s): %s", i, d.Event, d.EventID, strings.Join(d.Problems, "; "))
		}
	}
}

// ServeHTTP serves the webhook.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != s.path {
		reply(w, http.StatusNotFound, "error", "Workflow not found")
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		reply(w, http.StatusMethodNotAllowed, "error", "Method not allowed")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // truncated by the sender: nothing was delivered and no one reads the response
	}
	d := s.record(r.Header.Clone(), body)
	s.Serve(w, r, accept, d.Event, Any)
}

func (s *Server) record(header http.Header, body []byte) Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := Delivery{Time: s.clock.Now(), Event: header.Get("X-Pabbly-Event"), Header: header, Body: body}
	d.Problems = append(d.Problems, checkHeader(header)...)
	d.Problems = append(d.Problems, checkSignatures(s.secret, header, body, d.Time)...)
	d.Problems = append(d.Problems, s.checkBody(&d)...)
	s.deliveries.Add(d)
	return d
}

// Status responds with an HTTP status; retryAfter is the header's text, seconds or an HTTP date, and empty for none.
func Status(httpStatus int, retryAfter string) script.Step {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		reply(w, httpStatus, "error", http.StatusText(httpStatus))
	}
}

func accept(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, "success", "Webhook data received successfully")
}

func reply(w http.ResponseWriter, httpStatus int, status, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": status, "message": message})
}

func of(event string, all []Delivery) []Delivery {
	return slices.DeleteFunc(slices.Clone(all), func(d Delivery) bool { return event != Any && d.Event != event })
}

func atLeast(n int, event string) func([]Delivery) bool {
	return func(all []Delivery) bool { return len(of(event, all)) >= n }
}

func problem(format string, args ...any) []string { return []string{fmt.Sprintf(format, args...)} }
