package access

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// outage is an Access whose topic is as stale as the test says, with an auth that the test answers for.
type outage struct {
	*Access
	clock  *clock.Manual
	stale  time.Duration
	signer token.Signer
	log    *bytes.Buffer

	mu      sync.Mutex
	down    bool
	entries []Revocation // the list of auth; two per page
	asked   []string     // the positions
	change  func(*Revocations)
	header  func(http.Header)
}

func newOutage(t *testing.T) *outage {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	c := clock.At(time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC))
	o := &outage{clock: c, stale: forever, signer: token.Signer{KeyID: "k", Key: private, Clock: c}, log: &bytes.Buffer{}}
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	tel := telemetry.Nop()
	tel.Log = slog.New(slog.NewTextHandler(o.log, nil))
	o.Access = &Access{ended: newEnded(time.Hour, c), fallback: &fallback{
		url: server.URL + RevocationsPath, client: server.Client(), tel: tel, stale: func() time.Duration { return o.stale },
		keys: func(id string) (ed25519.PublicKey, error) {
			require.Equal(t, "k", id)
			return public, nil
		},
		stopwatch: func() func() time.Duration {
			began := c.Now()
			return func() time.Duration { return c.Now().Sub(began) }
		},
	}}
	o.fallback.ended = o.ended
	return o
}

// ServeHTTP is auth.
func (o *outage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	since := r.URL.Query().Get("since")
	o.asked = append(o.asked, since)
	if o.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	from, _ := strconv.Atoi(since)
	to := min(from+2, len(o.entries))
	l := Revocations{Nonce: r.URL.Query().Get("nonce"), Entries: o.entries[from:to], Next: strconv.Itoa(to), More: to < len(o.entries)}
	if o.change != nil {
		o.change(&l)
	}
	body, signature, _ := l.Sign(o.signer.SignText)
	w.Header().Set(SignatureHeader, signature)
	w.Header().Set("Content-Encoding", "gzip")
	if o.header != nil {
		o.header(w.Header())
	}
	zip := gzip.NewWriter(w)
	_, _ = zip.Write(body)
	_ = zip.Close()
}

// questions returns the positions that were asked for since the last call.
func (o *outage) questions() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	asked := o.asked
	o.asked = nil
	return asked
}

// end ends the session of a new caller at auth.
func (o *outage) end() identity.Caller {
	o.mu.Lock()
	defer o.mu.Unlock()
	caller := identity.Caller{AgentID: event.NewID(), SessionID: event.NewID()}
	o.entries = append(o.entries, Revocation{ID: caller.SessionID, Revoked: true})
	return caller
}

// after checks after d, by which the topic is staler too.
func (o *outage) after(t *testing.T, d time.Duration) {
	t.Helper()
	o.clock.Advance(d)
	if o.stale < forever-d && o.stale > 0 {
		o.stale += d
	}
	o.fallback.check(t.Context())
}

func (o *outage) requireKnown(t *testing.T, known bool) {
	t.Helper()
	err := o.admit(identity.Caller{AgentID: event.NewID(), SessionID: event.NewID()})
	if known {
		require.NoError(t, err)
		require.NoError(t, o.known())
		return
	}
	require.Equal(t, 503, fault.Status(err))
	require.Equal(t, "auth_unavailable", fault.Of(err).Code)
	require.Positive(t, fault.Of(err).RetryAfter)
	require.Error(t, o.known(), "readiness says so")
}

func requireEnded(t *testing.T, o *outage, c identity.Caller) {
	t.Helper()
	require.Equal(t, "session_ended", fault.Of(o.admit(c)).Code)
}

func TestAProcessThatStartsWithoutTheTopicAsksAuth(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	o.requireKnown(t, false)
	var ended []identity.Caller
	for range 5 {
		ended = append(ended, o.end())
	}
	inactive := identity.Caller{AgentID: event.NewID(), SessionID: event.NewID()}
	o.entries = append(o.entries, Revocation{ID: inactive.AgentID, Version: 7, Revoked: true})
	o.after(t, 0)
	require.Equal(t, []string{"", "2", "4"}, o.questions(), "page by page")
	o.requireKnown(t, true)
	for _, c := range append(ended, inactive) {
		requireEnded(t, o, c)
	}

	for range 4 {
		o.after(t, time.Second)
	}
	require.Empty(t, o.questions(), "the answer is used for 5 s")
	late := o.end()
	require.NoError(t, o.admit(late))
	o.entries = append(o.entries, Revocation{ID: inactive.AgentID, Version: 8})
	o.after(t, time.Second)
	require.Equal(t, []string{"6"}, o.questions(), "only what is new")
	requireEnded(t, o, late)
	require.NoError(t, o.admit(inactive), "active again")
}

func TestAuthIsNotAskedWhileTheTopicIsRead(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	o.stale = 0
	o.after(t, time.Hour)
	require.Equal(t, []string{""}, o.questions(), "once: the topic may have been lost before this process started")
	o.requireKnown(t, true)
	o.stale = 1 * time.Second
	for range 4 {
		o.after(t, time.Second)
	}
	require.Empty(t, o.questions(), "the topic may be unavailable for 5 s")
	o.requireKnown(t, true)
	ended := o.end()
	o.after(t, time.Second)
	require.Equal(t, []string{""}, o.questions())
	requireEnded(t, o, ended)

	o.stale = 0
	o.after(t, time.Minute)
	o.stale = 6 * time.Second
	o.after(t, 0)
	require.Equal(t, []string{""}, o.questions(), "each outage begins with the whole list")
}

func TestWithoutTopicAndAuthAProcessGoesOnForAMinute(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(t *testing.T, o *outage){
		"the topic was read last": func(_ *testing.T, o *outage) { o.stale = time.Nanosecond },
		"auth was asked last":     func(t *testing.T, o *outage) { t.Helper(); o.after(t, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutage(t)
			before(t, o)
			o.requireKnown(t, true)
			o.mu.Lock()
			o.down = true
			o.mu.Unlock()
			ended := o.end()
			for range 59 {
				o.after(t, time.Second)
				o.requireKnown(t, true)
			}
			o.after(t, time.Second+time.Nanosecond)
			o.requireKnown(t, false)
			require.Equal(t, 1, bytes.Count(o.log.Bytes(), []byte("level=WARN")), "one line per outage: %s", o.log)
			o.mu.Lock()
			o.down = false
			o.mu.Unlock()
			o.after(t, time.Second)
			o.requireKnown(t, true)
			requireEnded(t, o, ended)
			require.Contains(t, o.log.String(), "can be read again")
		})
	}
}

func TestOnlyASignedAnswerToTheQuestionIsUsed(t *testing.T) {
	t.Parallel()
	_, other, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	var old []byte
	for name, spoil := range map[string]func(o *outage){
		"an old answer": func(o *outage) { o.change = func(l *Revocations) { l.Nonce = "that of another question" } },
		"another key":   func(o *outage) { o.signer.Key = other },
		"not signed":    func(o *outage) { o.header = func(h http.Header) { h.Del(SignatureHeader) } },
		"the signature of another": func(o *outage) {
			o.header = func(h http.Header) { h.Set(SignatureHeader, o.signer.SignText(revocationsPurpose, old)) }
		},
		"signed for something else": func(o *outage) {
			o.change = func(l *Revocations) {
				body, _ := json.Marshal(l)
				o.header = func(h http.Header) { h.Set(SignatureHeader, o.signer.SignText("another purpose", body)) }
			}
		},
		"no end":   func(o *outage) { o.change = func(l *Revocations) { l.More = true; l.Entries = nil } },
		"no entry": func(o *outage) { o.down = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOutage(t)
			spoil(o)
			o.after(t, 0)
			o.requireKnown(t, false)
			require.NotEmpty(t, o.questions())
		})
	}
}
