package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/fake/script"
)

// jobTimeout is how long a call may take from its upload until it is completed. After a kill, a lease of 15 s has to expire first.
const jobTimeout = 5 * time.Minute

// agent is a user of a stack, anonymous before login. Its requests and responses are validated against the contract.
type agent struct {
	t                  testing.TB
	url                string
	name, email        string
	password, token    string
	traceID, requestID string // requestID is that of the last response
	http               *http.Client
}

// anonymous returns an anonymous user, with a trace of its own.
func (s *stack) anonymous() *agent {
	trace := make([]byte, 16)
	_, _ = rand.Read(trace)
	return &agent{
		t: s.t, url: s.url, name: "Asha Raghunathan", email: "asha-" + strings.ToLower(rand.Text()) + "@agents.example.com", password: rand.Text(),
		traceID: fmt.Sprintf("%x", trace), http: &http.Client{Transport: newContract(s.t), Timeout: script.Timeout},
	}
}

// newAgent registers an agent and logs in.
func (s *stack) newAgent() *agent {
	s.t.Helper()
	a := s.anonymous()
	a.post("/auth/register", map[string]any{"email": a.email, "password": a.password, "full_name": a.name}).must(http.StatusCreated)
	a.login()
	return a
}

func (a *agent) login() {
	a.t.Helper()
	var got struct {
		AccessToken string `json:"access_token"`
	}
	a.post("/auth/login", url.Values{"username": {a.email}, "password": {a.password}}).must(http.StatusOK).into(&got)
	a.token = got.AccessToken
}

// answer is a response.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   []byte
}

// must requires a status.
func (a answer) must(status int) answer {
	a.t.Helper()
	require.Equal(a.t, status, a.status, "%s\n%s", a.what, a.body)
	return a
}

// into decodes the body.
func (a answer) into(v any) {
	a.t.Helper()
	require.NoError(a.t, json.Unmarshal(a.body, v), "%s\n%s", a.what, a.body)
}

// problem is an error response.
type problem struct {
	Detail    json.RawMessage
	Code      string
	RequestID string `json:"request_id"`
}

// fields returns the locations of a 422, such as body.email, sorted.
func (a answer) fields() []string {
	a.t.Helper()
	var got struct {
		Detail string // one text, which apps show as it is
		Errors []struct{ Loc []any }
	}
	a.into(&got)
	var all []string
	for _, field := range got.Errors {
		var path []string
		for _, step := range field.Loc {
			path = append(path, fmt.Sprint(step))
		}
		all = append(all, strings.Join(path, "."))
	}
	slices.Sort(all)
	return all
}

// refused requires an error response.
func (a answer) refused(status int, code string) answer {
	a.t.Helper()
	a.must(status)
	var got problem
	a.into(&got)
	require.Equal(a.t, code, got.Code, "%s\n%s", a.what, a.body)
	return a
}

func (a *agent) get(path string, headers ...string) answer {
	a.t.Helper()
	return a.do(http.MethodGet, path, nil, headers...)
}

func (a *agent) post(path string, body any, headers ...string) answer {
	a.t.Helper()
	return a.do(http.MethodPost, path, body, headers...)
}

// do sends a request and reads the response. A body that is neither a reader nor a form is sent as JSON; headers are pairs.
func (a *agent) do(method, path string, body any, headers ...string) answer {
	a.t.Helper()
	got, err := a.try(method, path, body, headers...)
	require.NoError(a.t, err, "%s %s", method, path)
	return got
}

// try is do for a request that may get no response.
func (a *agent) try(method, path string, body any, headers ...string) (answer, error) {
	request := a.request(method, path, body, headers...)
	response, err := a.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	a.requestID = response.Header.Get("X-Request-ID")
	return answer{a.t, method + " " + path, response.StatusCode, response.Header, content}, err
}

func (a *agent) request(method, path string, body any, headers ...string) *http.Request {
	a.t.Helper()
	reader, contentType := encode(a.t, body)
	request, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, reader)
	require.NoError(a.t, err)
	request.Header.Set("traceparent", "00-"+a.traceID+"-"+strings.ToLower(fmt.Sprintf("%x", rand.Text()[:8]))+"-01")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if a.token != "" {
		request.Header.Set("Authorization", "Bearer "+a.token)
	}
	for pair := range slices.Chunk(headers, 2) {
		request.Header.Set(pair[0], pair[1])
	}
	if form, ok := body.(*form); ok {
		request.ContentLength = form.length
	}
	return request
}

func encode(t testing.TB, body any) (io.Reader, string) {
	t.Helper()
	switch body := body.(type) {
	case nil:
		return nil, ""
	case *form:
		return body, body.contentType
	case io.Reader:
		return body, ""
	case url.Values:
		return strings.NewReader(body.Encode()), "application/x-www-form-urlencoded"
	default:
		raw, err := json.Marshal(body)
		require.NoError(t, err)
		return bytes.NewReader(raw), "application/json"
	}
}

// form is a multipart body with one file, as a phone sends it: with a known length, and streamed.
type form struct {
	io.Reader
	contentType string
	length      int64
}

// recording returns the form of an upload with fields and a file of that many bytes.
func recording(filename string, content io.Reader, size int64, fields map[string]string) *form {
	const boundary = "convoflow-e2e"
	var head strings.Builder
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		fmt.Fprintf(&head, "--%s\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", boundary, name, fields[name])
	}
	fmt.Fprintf(&head, "--%s\r\nContent-Disposition: form-data; name=\"audio\"; filename=%q\r\nContent-Type: application/octet-stream\r\n\r\n", boundary, filename)
	foot := "\r\n--" + boundary + "--\r\n"
	return &form{
		Reader:      io.MultiReader(strings.NewReader(head.String()), io.LimitReader(content, size), strings.NewReader(foot)),
		contentType: "multipart/form-data; boundary=" + boundary,
		length:      int64(head.Len()) + size + int64(len(foot)),
	}
}

const salesCallPath = "../../console/sample/sales-call.ogg"

// salesCall returns the recording of the repository: two speakers, about half a minute, ogg.
func salesCall(t testing.TB) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.FromSlash(salesCallPath))
	require.NoError(t, err)
	return content
}

// client, call and followUp are the fields of the responses that the tests check.
type client struct{ ID, Name, Phone, Email, Company string }

type call struct {
	ID            string
	ClientID      string `json:"client_id"`
	Status        string
	Error         *struct{ Code, Message string }
	Outcome       string
	Progress      float64
	Filename      string   `json:"audio_filename"`
	Duration      float64  `json:"duration_seconds"`
	RawTranscript string   `json:"raw_transcript"`
	Summary       string   `json:"summary"`
	ActionItems   []string `json:"action_items"`
	Sentiment     string
	KeyTopics     []string `json:"key_topics"`
	NextStep      string   `json:"next_step"`
	Attempts      int
	CompletedAt   time.Time `json:"completed_at"`
	PabblySent    bool      `json:"pabbly_sent"`
	Models        struct{ Transcription, Chat string }
}

type followUp struct {
	ID       string
	CallID   string `json:"call_id"`
	ClientID string `json:"client_id"`
	Task     string
	Status   string
}

// newClient creates a client with unique details.
func (a *agent) newClient() client {
	a.t.Helper()
	digits := fmt.Sprintf("%08d", time.Now().UnixNano()%100_000_000)
	var made client
	a.post("/clients", map[string]any{
		"name": "Maria Featherstonehaugh", "phone": "98" + digits, "email": "maria" + digits + "@clients.example.com", "company": "Kapoor Textiles",
	}).must(http.StatusCreated).into(&made)
	require.Equal(a.t, "+9198"+digits, made.Phone, "in E.164, of DEFAULT_COUNTRY")
	return made
}

// newPhone returns a number that nobody has yet.
func newPhone() string { return fmt.Sprintf("97%08d", time.Now().UnixNano()/10%100_000_000) }

// newLead adds a lead and returns its id.
func (a *agent) newLead() string {
	a.t.Helper()
	var made struct{ ID string }
	a.post("/leads", map[string]any{"name": "Ravi Featherstonehaugh", "phone": newPhone(), "source_campaign": "Diwali", "conversation_summary": "He wants to buy the yearly plan."}).must(http.StatusCreated).into(&made)
	return made.ID
}

// upload sends the sales call and requires that it is accepted at once.
func (a *agent) upload(fields map[string]string, headers ...string) call {
	a.t.Helper()
	audio := salesCall(a.t)
	all := map[string]string{"force": "true"} // it is the same recording each time
	maps.Copy(all, fields)
	var got call
	a.post("/calls/upload", recording("Featherstonehaugh.ogg", bytes.NewReader(audio), int64(len(audio)), all), headers...).must(http.StatusAccepted).into(&got)
	require.Equal(a.t, "pending", got.Status)
	return got
}

func (a *agent) call(id string) (got call) {
	a.t.Helper()
	a.get("/calls/" + id).must(http.StatusOK).into(&got)
	return got
}

// completed waits for the end of a call and requires that it is completed.
func (a *agent) completed(id string) (got call) {
	a.t.Helper()
	poll(a.t, jobTimeout, "the call has ended", func() bool {
		got = a.call(id)
		return got.Status == "completed" || got.Status == "failed"
	})
	require.Equal(a.t, "completed", got.Status, "%+v", got.Error)
	return got
}

// followUpBody returns the request for the follow-up of a call.
func followUpBody(callID string) map[string]any {
	return map[string]any{"call_id": callID, "due_date": "2031-05-06T07:08:00Z", "task": "Send the proposal", "notes": "She prefers the mornings"}
}

// get sends a request outside the contract, such as to an admin port.
func get(t testing.TB, address string) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", address, body)
	return body
}
