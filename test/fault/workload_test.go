package fault

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	mathrand "math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// requestTimeout is how long a client waits. A request that takes longer hangs.
	requestTimeout = 60 * time.Second
	// retryLimit is how often a client repeats a create whose answer was lost, with the same Idempotency-Key.
	retryLimit = 20
	retryPause = 500 * time.Millisecond
	password   = "violet heron over the quiet marsh"
)

// workload is clients that use the platform at the same time: each is an agent on a phone, whose choices follow from the seed.
type workload struct {
	world   *world
	ledger  *ledger
	audio   []byte
	workers []*worker
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// worker is one client. It makes one request after another.
type worker struct {
	*workload
	number    int
	random    *mathrand.Rand
	http      *http.Client
	email     string
	token     string
	clients   []string // ids of what was acknowledged
	calls     []string
	followUps []string
	leads     []string
}

// tone returns a recording of two seconds, which costs little to decode: 16-bit PCM, mono, 8 kHz, in the canonical WAV header of
// http://soundfile.sapp.org/doc/WaveFormat/.
func tone() []byte {
	const rate, samples = 8000, 2 * 8000
	var b bytes.Buffer
	put := func(fields ...any) {
		for _, f := range fields {
			if text, ok := f.(string); ok {
				b.WriteString(text)
				continue
			}
			_ = binary.Write(&b, binary.LittleEndian, f)
		}
	}
	put("RIFF", uint32(36+2*samples), "WAVE", "fmt ", uint32(16), uint16(1), uint16(1), uint32(rate), uint32(2*rate), uint16(2), uint16(16), "data", uint32(2*samples))
	for i := range samples {
		put(int16(8000 * math.Sin(2*math.Pi*440*float64(i)/rate)))
	}
	return b.Bytes()
}

// newWorkload registers the agents.
func newWorkload(t testing.TB, w *world, workers int, seed uint64) *workload {
	t.Helper()
	l := &workload{world: w, ledger: &ledger{}, audio: tone()}
	for i := range workers {
		c := &worker{
			workload: l, number: i + 1, random: mathrand.New(mathrand.NewPCG(seed, uint64(i))),
			http: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}, email: "agent-" + mark() + "@agents.example.com",
		}
		t.Cleanup(c.http.CloseIdleConnections)
		e, _ := c.send(t.Context(), entry{}, http.MethodPost, "/auth/register", "application/json",
			object(map[string]any{"email": c.email, "password": password, "full_name": "Agent " + fmt.Sprint(i+1)}))
		require.Equal(t, http.StatusCreated, e.Status, "%+v", e)
		require.True(t, c.logIn(t.Context()).answered())
		l.workers = append(l.workers, c)
	}
	return l
}

// begin lets the clients work until pause.
func (l *workload) begin() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.world.t.Context()))
	l.cancel = cancel
	for _, c := range l.workers {
		l.running.Go(func() { c.run(ctx) })
	}
}

// pause returns when every client has its last answer.
func (l *workload) pause() {
	if l.cancel != nil {
		l.cancel()
	}
	l.running.Wait()
}

// run makes requests until ctx ends. A request that has begun is finished.
func (c *worker) run(ctx context.Context) {
	whole := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		c.step(whole)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(50+c.random.IntN(200)) * time.Millisecond):
		}
	}
}

// step is one thing that a client does.
func (c *worker) step(ctx context.Context) {
	switch n := c.random.IntN(100); {
	case n < 20 || len(c.clients) == 0:
		c.createClient(ctx)
	case n < 35:
		c.changeClient(ctx)
	case n < 50 || len(c.calls) == 0:
		c.upload(ctx)
	case n < 53:
		c.abortUpload(ctx)
	case n < 70:
		c.createFollowUp(ctx)
	case n < 78 && len(c.followUps) > 0:
		c.completeFollowUp(ctx)
	case n < 80:
		c.logIn(ctx)
	case n < 84 || len(c.leads) == 0:
		c.createLead(ctx)
	case n < 88:
		c.receiveLead(ctx)
	case n < 92:
		c.changeLead(ctx)
	default:
		c.read(ctx)
	}
}

// createClient, upload and createFollowUp repeat a request whose answer was lost, as a phone does, or give it up.
func (c *worker) createClient(ctx context.Context) {
	m := mark()
	digits := fmt.Sprintf("%09d", number(1_000_000_000))
	body := object(map[string]any{"name": m, "phone": "9" + digits, "email": m + "@clients.example.com"})
	c.create(ctx, entry{Operation: createClient, Mark: m}, "/clients", "application/json", body, &c.clients)
}

func (c *worker) upload(ctx context.Context) {
	m := mark()
	linked, id := "client_id", c.pick(c.clients)
	if len(c.leads) > 0 && c.random.IntN(2) == 0 {
		linked, id = "lead_id", c.pick(c.leads)
	}
	body, contentType := c.form(m, linked, id)
	c.create(ctx, entry{Operation: upload, Mark: m}, "/calls/upload", contentType, body, &c.calls)
}

func (c *worker) createFollowUp(ctx context.Context) {
	m := mark()
	body := object(map[string]any{"call_id": c.pick(c.calls), "due_date": "2031-05-06T07:08:00Z", "task": m})
	c.create(ctx, entry{Operation: createFollowUp, Mark: m}, "/followups", "application/json", body, &c.followUps)
}

func (c *worker) create(ctx context.Context, e entry, path, contentType string, body []byte, ids *[]string) {
	limit := 1
	if c.random.IntN(4) > 0 {
		limit = retryLimit
	}
	for range limit {
		sent, answer := c.send(ctx, e, http.MethodPost, path, contentType, body)
		var made struct{ ID string }
		if sent.answered() && json.Unmarshal(answer, &made) == nil {
			sent.ID = made.ID
			*ids = append(*ids, made.ID)
		}
		c.ledger.add(sent)
		if sent.answered() || sent.refused() {
			return
		}
		<-time.After(retryPause)
	}
}

func (c *worker) changeClient(ctx context.Context) {
	m, id := mark(), c.pick(c.clients)
	e, _ := c.send(ctx, entry{Operation: changeClient, Mark: m, Target: id}, http.MethodPatch, "/clients/"+id, "application/json", object(map[string]any{"notes": m}))
	c.ledger.add(e)
}

func (c *worker) completeFollowUp(ctx context.Context) {
	id := c.pick(c.followUps)
	e, _ := c.send(ctx, entry{Operation: completeTask, Target: id}, http.MethodPatch, "/followups/"+id+"/complete", "", nil)
	c.ledger.add(e)
}

func (c *worker) logIn(ctx context.Context) entry {
	form := url.Values{"username": {c.email}, "password": {password}}
	e, answer := c.send(ctx, entry{Operation: login}, http.MethodPost, "/auth/login", "application/x-www-form-urlencoded", []byte(form.Encode()))
	var got struct {
		AccessToken string `json:"access_token"`
	}
	if e.answered() && json.Unmarshal(answer, &got) == nil {
		c.token = got.AccessToken
	}
	c.ledger.add(e)
	return e
}

// read reads something that was acknowledged.
func (c *worker) read(ctx context.Context) {
	path, id := "/clients/", c.pick(c.clients)
	switch c.random.IntN(6) {
	case 0:
		path, id = "/calls/", c.pick(c.calls)
	case 1:
		if len(c.followUps) > 0 {
			path, id = "/followups/", c.pick(c.followUps)
		}
	case 2:
		path, id = "/calls?limit=20", ""
	case 3:
		path, id = "/leads/", c.pick(c.leads)
	case 4:
		path, id = "/analytics/overview", ""
	}
	e, _ := c.send(ctx, entry{Operation: read, Target: id}, http.MethodGet, path+id, "", nil)
	c.ledger.add(e)
}

// abortUpload sends half of a recording and disconnects.
func (c *worker) abortUpload(ctx context.Context) {
	m := mark()
	body, contentType := c.form(m, "client_id", "")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	half := io.MultiReader(bytes.NewReader(body[:len(body)/2]), cancelling(cancel))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.world.url+"/calls/upload", half)
	if err != nil {
		return
	}
	request.ContentLength = int64(len(body))
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Authorization", "Bearer "+c.token)
	if response, err := c.http.Do(request); err == nil {
		_ = response.Body.Close()
	}
	c.ledger.add(entry{Worker: c.number, Operation: abortUpload, Mark: m, Began: time.Now()})
}

// cancelling is a body whose reader has disconnected.
type cancelling context.CancelFunc

func (c cancelling) Read([]byte) (int, error) {
	c()
	return 0, errors.New("the client disconnects")
}

// send makes a request and completes its entry. It returns the body of the answer too.
func (c *worker) send(ctx context.Context, e entry, method, path, contentType string, body []byte) (entry, []byte) {
	e.Worker, e.Began = c.number, time.Now()
	request, err := http.NewRequestWithContext(ctx, method, c.world.url+path, bytes.NewReader(body))
	if err != nil {
		e.Error = err.Error()
		return e, nil
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if e.Mark != "" && method == http.MethodPost {
		request.Header.Set("Idempotency-Key", e.Mark)
	}
	if e.Operation == receiveLead {
		request.Header.Set("X-Pabbly-Signature", signature(body))
	}
	response, err := c.http.Do(request)
	if err != nil {
		e.Error, e.Took = err.Error(), time.Since(e.Began)
		return e, nil
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	e.Took = time.Since(e.Began)
	if err != nil {
		e.Error = err.Error()
		return e, nil
	}
	e.Status, e.Retry = response.StatusCode, response.Header.Get("Retry-After") != ""
	if e.Status >= 400 {
		var problem struct{ Code string }
		_ = json.Unmarshal(answer, &problem)
		e.Code = problem.Code
	}
	return e, answer
}

// form is the upload of a recording. linked is the field of the id of a client or lead.
func (c *worker) form(filename, linked, id string) (body []byte, contentType string) {
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	_ = m.WriteField("force", "true") // all of them are the same recording
	if id != "" {
		_ = m.WriteField(linked, id)
	}
	part, _ := m.CreateFormFile("audio", filename+".wav")
	_, _ = part.Write(c.audio)
	_ = m.Close()
	return b.Bytes(), m.FormDataContentType()
}

// pick returns one of the last few ids, or nothing of none.
func (c *worker) pick(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	recent := ids[max(0, len(ids)-20):]
	return recent[c.random.IntN(len(recent))]
}

func object(fields map[string]any) []byte {
	raw, _ := json.Marshal(fields)
	return raw
}

// mark returns a unique text.
func mark() string { return strings.ToLower(rand.Text()[:16]) }

func number(below int64) int64 {
	n, _ := rand.Int(rand.Reader, big.NewInt(below))
	return n.Int64()
}
