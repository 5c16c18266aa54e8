// Package inbox replaces Pabbly Connect on a developer's machine: a webhook receiver that stores deliveries, verifies both
// signatures, and shows the deliveries on a page as they arrive. The page can also send a signed sample lead as Pabbly would, and make the
// next deliveries fail, to show the retries. It stores the newest 200 deliveries in one file. It refuses readers on other
// machines that have no token, because payloads contain personal data.
package inbox

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/convoflow/convoflow/libs/clock"
)

const (
	maxKept = 200      // deliveries that are stored, the newest ones
	maxBody = 64 << 10 // bytes; a payload of notify has at most 20 kB
)

//go:embed page
var files embed.FS

// Delivery is one received request.
type Delivery struct {
	ReceivedAt time.Time         `json:"received_at"`
	Event      string            `json:"event"`
	EventID    string            `json:"event_id"`
	Headers    map[string]string `json:"headers"`
	Body       string            `json:"body"`
	Signatures Signatures        `json:"signatures"`
	Failed     bool              `json:"failed"` // on request: it was answered with 500
}

// Signatures says which of the two signatures are valid.
type Signatures struct {
	Pabbly   bool `json:"x_pabbly_signature"`
	Standard bool `json:"webhook_signature"`
}

// Valid reports whether both signatures are valid.
func (s Signatures) Valid() bool { return s.Pabbly && s.Standard }

// Inbox receives and shows deliveries. It is safe for concurrent use.
type Inbox struct {
	secrets  Secrets
	verifier *standardwebhooks.Webhook
	page     *template.Template
	clock    clock.Clock
	sender   *Sender // nil: no button

	mu         sync.Mutex
	file       *os.File
	deliveries []Delivery // oldest first
	failures   int        // how many of the next deliveries fail
	watchers   map[chan struct{}]bool
}

// Secrets of an inbox.
type Secrets struct {
	Path    string // the secret part of the URL to which webhooks are sent
	Signing string // the key of their signatures
	Reader  string // the token with which another machine may read the inbox
}

// Open reads the inbox from file, or creates it.
func Open(file string, s Secrets, c clock.Clock) (*Inbox, error) {
	verifier, err := standardwebhooks.NewWebhookRaw([]byte(s.Signing))
	if err != nil {
		return nil, fmt.Errorf("create the signature verifier: %w", err)
	}
	page, err := template.ParseFS(files, "page/inbox.html")
	if err != nil {
		return nil, fmt.Errorf("read the inbox page: %w", err)
	}
	deliveries, err := load(file)
	if err != nil {
		return nil, err
	}
	in := &Inbox{secrets: s, verifier: verifier, page: page, clock: c, deliveries: deliveries, watchers: map[chan struct{}]bool{}}
	if in.file, err = rewrite(file, deliveries); err != nil {
		return nil, err
	}
	return in, nil
}

// load reads the newest deliveries. It skips a line that a crash truncated: its sender got no response and sends it again.
func load(file string) ([]Delivery, error) {
	raw, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read the inbox: %w", err)
	}
	var out []Delivery
	for line := range strings.Lines(string(raw)) {
		var d Delivery
		if json.Unmarshal([]byte(line), &d) == nil {
			out = append(out, d)
		}
	}
	return out[max(0, len(out)-maxKept):], nil
}

func rewrite(file string, deliveries []Delivery) (*os.File, error) {
	temporary := file + ".new"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the inbox: %w", err)
	}
	encoder := json.NewEncoder(f)
	for _, d := range deliveries {
		if err := encoder.Encode(d); err != nil {
			return nil, fmt.Errorf("write the inbox: %w", err)
		}
	}
	if err := os.Rename(temporary, file); err != nil {
		return nil, fmt.Errorf("write the inbox: %w", err)
	}
	return f, nil
}

// Close closes the file.
func (in *Inbox) Close() { _ = in.file.Close() }

// Path returns the path to which webhooks are sent, on a server that serves Handler.
func (in *Inbox) Path() string { return "/inbox/hooks/" + in.secrets.Path }

// Handler serves the page at /inbox and the deliveries as JSON at /inbox/deliveries and as server-sent events at /inbox/events, receives
// webhooks at Path, makes the next ones fail for POST /inbox/fail, and sends a sample lead for POST /inbox/lead after SendLeads.
func (in *Inbox) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /inbox", in.restricted(in.show))
	mux.HandleFunc("GET /inbox/{$}", in.restricted(in.show))
	mux.HandleFunc("GET /inbox/deliveries", in.restricted(in.list))
	mux.HandleFunc("GET /inbox/events", in.restricted(in.watch))
	mux.HandleFunc("POST /inbox/fail", in.restricted(onPage(in.fail)))
	mux.HandleFunc("GET /inbox/static/{file}", static)
	mux.HandleFunc("POST /inbox/hooks/{token}", in.receive)
	if in.sender != nil {
		mux.HandleFunc("POST /inbox/lead", in.restricted(onPage(in.sendLead)))
	}
	return mux
}

// static serves a file of the page. Unlike http.FileServer it never redirects, and lists no directory.
func static(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	raw, err := files.ReadFile("page/" + name)
	if err != nil || strings.HasSuffix(name, ".html") { // the page itself is a template
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(raw))
}

// readerCookie has the reader's token, so that the page can be reloaded and can fetch deliveries.
const readerCookie = "convoflow_inbox"

// restricted passes requests from this machine, and those with the reader's token: as a bearer token, or once as ?token=, which
// sets a cookie.
func (in *Inbox) restricted(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		sent := r.URL.Query().Get("token")
		switch {
		case in.isReader(sent):
			//nolint:gosec // not Secure: the page may be reached without TLS
			http.SetCookie(w, &http.Cookie{Name: readerCookie, Value: sent, Path: "/inbox", HttpOnly: true, SameSite: http.SameSiteStrictMode})
		case isLocal(r), in.isReader(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")):
		default:
			cookie, err := r.Cookie(readerCookie)
			if err != nil || !in.isReader(cookie.Value) {
				http.Error(w, "The webhook inbox has personal data. From another machine, open it with ?token= and the inbox_reader of secrets.json in the data directory, or through an SSH tunnel.", http.StatusForbidden)
				return
			}
		}
		next(w, r)
	}
}

func (in *Inbox) isReader(token string) bool {
	return subtle.ConstantTimeCompare([]byte(token), []byte(in.secrets.Reader)) == 1 && token != ""
}

// isLocal reports whether a request comes from this machine. One with another host name does not: a web page in a browser here
// could use a name that resolves to a loopback address (DNS rebinding). Neither does one through a proxy, whatever address the
// proxy reports: the headers of the gateway in front have been removed.
func isLocal(r *http.Request) bool {
	for name := range r.Header {
		if name == "Via" || name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") {
			return false
		}
	}
	return isLoopback(r.RemoteAddr) && isLoopback(r.Host)
}

// onPage refuses requests that another web page sends from a browser.
func onPage(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewCrossOriginProtection().Check(r); err != nil {
			http.Error(w, "Press the button on the page itself.", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

func isLoopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = strings.Trim(hostPort, "[]") // without a port
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

func (in *Inbox) receive(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.PathValue("token")), []byte(in.secrets.Path)) != 1 {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "body truncated or too large", http.StatusBadRequest)
		return
	}
	d := Delivery{
		ReceivedAt: in.clock.Now(), Event: r.Header.Get("X-Pabbly-Event"), EventID: r.Header.Get("webhook-id"),
		Headers: map[string]string{}, Body: string(body), Signatures: in.check(r.Header, body), Failed: in.takeFailure(),
	}
	for name, values := range r.Header {
		d.Headers[name] = strings.Join(values, ", ")
	}
	if err := in.add(d); err != nil {
		http.Error(w, "could not be stored", http.StatusInternalServerError)
		return
	}
	if d.Failed {
		http.Error(w, "The inbox was asked to fail.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"success","message":"Data received"}` + "\n"))
}

func (in *Inbox) check(h http.Header, body []byte) Signatures {
	mac := hmac.New(sha256.New, []byte(in.secrets.Signing))
	mac.Write(body)
	return Signatures{
		Pabbly:   subtle.ConstantTimeCompare([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(h.Get("X-Pabbly-Signature"))) == 1,
		Standard: in.verifier.Verify(body, h) == nil,
	}
}

func (in *Inbox) add(d Delivery) error {
	line, err := json.Marshal(d)
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	// Synced before the sender gets its response.
	if _, err := in.file.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := in.file.Sync(); err != nil {
		return err
	}
	in.deliveries = append(in.deliveries, d)
	in.deliveries = in.deliveries[max(0, len(in.deliveries)-maxKept):]
	for wake := range in.watchers {
		select {
		case wake <- struct{}{}:
		default: // it has not yet looked since the last one
		}
	}
	return nil
}

func (in *Inbox) newestFirst() []Delivery {
	in.mu.Lock()
	defer in.mu.Unlock()
	list := slices.Clone(in.deliveries)
	slices.Reverse(list)
	return list
}

func (in *Inbox) list(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	list := in.newestFirst()
	if list == nil {
		list = []Delivery{}
	}
	_ = json.NewEncoder(w).Encode(list)
}

func (in *Inbox) show(w http.ResponseWriter, r *http.Request) {
	rows := in.rows(time.Time{})
	slices.Reverse(rows)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	_ = in.page.Execute(w, contents{in.sender != nil, r.URL.Query().Get("lead"), in.toFail(), newest(rows), rows})
}

// pretty indents a body, with its keys in the order in which they were sent.
func pretty(body string) string {
	var out bytes.Buffer
	if json.Indent(&out, []byte(body), "", "  ") != nil {
		return body
	}
	return out.String()
}

// TraceID returns the trace id in a W3C traceparent header, or "" if the header is invalid.
func TraceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) != 4 {
		return ""
	}
	return parts[1]
}
