package calls_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/pg/pgtest/temporary"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls"
)

func TestMain(m *testing.M) {
	os.Exit(temporary.Run(func() int {
		defer services.close()
		return m.Run()
	}))
}

// app is the running service, and fakes of the provider and of crm.
type app struct {
	*servicetest.World
	cfg     calls.Config
	ai      *fakeAI
	crm     *fakeCRM
	storage string
	pooled  bool
}

// start returns a running service: one of the pool, or one of the test's own if it changes the settings.
func start(t *testing.T, change ...func(*calls.Config)) *app {
	t.Helper()
	if len(change) == 0 {
		return services.borrow(t)
	}
	return begin(t, change...)
}

// alone changes nothing. It is for a test that stops its service, or leaves it in a state that others would see.
func alone(*calls.Config) {}

func begin(t testing.TB, change ...func(*calls.Config)) *app {
	t.Helper()
	w := servicetest.New(t, calls.Contract())
	a := &app{
		World: w, cfg: calls.Defaults(), ai: newFakeAI(t), crm: newFakeCRM(t), storage: t.TempDir(),
	}
	a.cfg.Config = w.Config
	a.cfg.SecretKey = "7Qm2xV9pLr4TzW8kYb3NcF6hJd1SgA5e"
	a.cfg.CRMURL = a.crm.url
	a.cfg.StorageURL = "file://" + a.storage
	a.cfg.TempDir = t.TempDir()
	a.cfg.OpenAI.APIKey, a.cfg.OpenAI.BaseURL = "sk-test", a.ai.url
	a.cfg.RetryWaits = []time.Duration{10 * time.Millisecond, 10 * time.Millisecond}
	a.cfg.MaxAudioSizeMB = 2
	for _, f := range change {
		f(&a.cfg)
	}
	require.Empty(t, a.cfg.Check())
	a.start()
	return a
}

// start runs the service, also again after Stop.
func (a *app) start() {
	a.T.Helper()
	a.Tel.Metrics = telemetry.Nop().Metrics // a process registers its metrics once
	a.Start(func(ctx context.Context, tel telemetry.Set) (*service.App, error) { return calls.New(ctx, a.cfg, tel) })
}

// in returns the app for a subtest.
func (a *app) in(t testing.TB) *app {
	t.Helper()
	inner := *a
	inner.World = a.In(t)
	return &inner
}

// upload sends a recording, named call.ogg, followed by the fields, which is the more difficult order. It becomes a new call also if
// the recording was sent before, unless the fields say otherwise.
func (a *app) upload(as identity.Caller, audio []byte, fields map[string]string, header ...string) servicetest.Answer {
	a.T.Helper()
	all := map[string]string{"force": "true"}
	maps.Copy(all, fields)
	body, contentType := form(a.T, "call.ogg", audio, all)
	return a.Send(as, http.MethodPost, "/calls/upload", body, append([]string{"Content-Type", contentType}, header...)...)
}

func form(t testing.TB, name string, audio []byte, fields map[string]string) (*bytes.Buffer, string) {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	if audio != nil {
		part, err := w.CreateFormFile("audio", name)
		require.NoError(t, err)
		_, err = part.Write(audio)
		require.NoError(t, err)
	}
	for field, value := range fields {
		require.NoError(t, w.WriteField(field, value))
	}
	require.NoError(t, w.Close())
	return &body, w.FormDataContentType()
}

// call uploads a recording of the agent and returns the call's id.
func (a *app) call(audio []byte) string {
	a.T.Helper()
	return a.upload(a.Agent, audio, nil).Is(http.StatusAccepted).Text("id")
}

// ended waits for the end of a call of the agent.
func (a *app) ended(id string) map[string]any {
	a.T.Helper()
	var last servicetest.Answer
	a.Await("the call "+id+" ends", func() bool {
		a.promote()
		last = a.Get(a.Agent, "/calls/"+id).Is(http.StatusOK)
		return slices.Contains([]string{"completed", "failed"}, last.Text("status"))
	})
	return last.Object()
}

// promote does what River's scheduler does every 5 s: it makes the jobs available that are due.
func (a *app) promote() {
	a.T.Helper()
	_, err := a.DB.Pool().Exec(a.T.Context(), `update river_job set state = 'available' where state in ('scheduled', 'retryable') and scheduled_at <= now()`)
	require.NoError(a.T, err)
}

// files returns all files below the storage directory.
func (a *app) files() []string {
	a.T.Helper()
	var found []string
	require.NoError(a.T, filepath.WalkDir(a.storage, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, strings.TrimPrefix(path, a.storage+"/"))
		}
		return err
	}))
	return found
}

// temporary returns the directories in which recordings are being prepared.
func (a *app) temporary() []string {
	a.T.Helper()
	found, err := filepath.Glob(filepath.Join(a.cfg.TempDir, "convoflow-calls", "*", "call-*"))
	require.NoError(a.T, err)
	return found
}

// now is the time of an event.
func (a *app) now() time.Time { return clock.System{}.Now() }

// made are the recordings that were made, by their arguments.
var made sync.Map

// recording returns audio of that many seconds.
func recording(t testing.TB, seconds float64, args ...string) []byte {
	t.Helper()
	key := fmt.Sprint(seconds, args)
	if known, ok := made.Load(key); ok {
		return bytes.Clone(known.([]byte))
	}
	if len(args) == 0 {
		args = []string{"-c:a", "libopus", "-f", "ogg"}
	}
	out := filepath.Join(t.TempDir(), "audio")
	all := append([]string{"-nostdin", "-v", "error", "-f", "lavfi", "-i", fmt.Sprintf("sine=frequency=440:duration=%f", seconds)}, args...)
	output, err := exec.CommandContext(t.Context(), "ffmpeg", append(all, out)...).CombinedOutput()
	require.NoError(t, err, string(output))
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	made.Store(key, raw)
	return bytes.Clone(raw)
}

// silence returns that many seconds of silence.
func silence(t *testing.T, seconds float64) []byte {
	t.Helper()
	return recording(t, seconds, "-af", "volume=0", "-c:a", "libopus", "-f", "ogg")
}

// wav returns uncompressed audio of that many seconds.
func wav(t *testing.T, seconds float64) []byte {
	t.Helper()
	return recording(t, seconds, "-c:a", "pcm_s16le", "-f", "wav")
}

// fakeAI implements the part of OpenAI's API that the service needs.
type fakeAI struct {
	server         *httptest.Server
	url            string
	transcriptions atomic.Int64
	chats          atomic.Int64
	onTranscribe   atomic.Pointer[http.HandlerFunc]
	onChat         atomic.Pointer[http.HandlerFunc]
}

const transcript = "I would like the yearly plan, but the price is too high."

func insights() map[string]any {
	return map[string]any{
		"title": "Yearly plan", "summary": "The customer wants the yearly plan and finds it expensive.", "action_items": []string{"Send an offer"},
		"sentiment": "positive", "key_topics": []string{"price"}, "next_step": "Send an offer", "intent_category": "interested", "intent_confidence": 0.8,
		"interest_level": "high", "objections": []string{"price"}, "callback_time": "2026-12-01T10:00:00+01:00", "language": "en",
		"evidence": []map[string]any{{"kind": "objection", "claim": "price", "quote": "The price is too high"}, {"kind": "next_step", "claim": "Buy a car", "quote": "I want a car"}},
	}
}

func newFakeAI(t testing.TB) *fakeAI {
	t.Helper()
	f := &fakeAI{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/audio/transcriptions", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		f.transcriptions.Add(1)
		if h := f.onTranscribe.Load(); h != nil {
			(*h)(w, r)
			return
		}
		reply(w, map[string]any{"text": transcript, "language": "english", "duration": 3, "segments": []map[string]any{{"start": 0.5, "end": 2.5, "text": " " + transcript}}})
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http detects that a client has disconnected only after the body was read
		f.chats.Add(1)
		if h := f.onChat.Load(); h != nil {
			(*h)(w, r)
			return
		}
		reply(w, chatAnswer(insights()))
	})
	f.server = httptest.NewServer(mux)
	t.Cleanup(func() {
		f.server.CloseClientConnections() // Close waits for open requests
		f.server.Close()
	})
	f.url = f.server.URL + "/v1"
	return f
}

func chatAnswer(content map[string]any) map[string]any {
	raw, _ := json.Marshal(content)
	return map[string]any{"model": "gpt-4o-mini-2024-07-18", "choices": []any{map[string]any{"finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": string(raw)}}}}
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(status int, code string) *http.HandlerFunc {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		reply(w, map[string]any{"error": map[string]any{"message": "install it", "type": "x", "code": code}})
	})
	return &h
}

// fakeCRM serves clients by id.
type fakeCRM struct {
	url      string
	requests atomic.Int64
	status   atomic.Int64 // of every response, unless 0
	clients  sync.Map     // id to agent id
}

func newFakeCRM(t testing.TB) *fakeCRM {
	t.Helper()
	f := &fakeCRM{}
	f.url = servicetest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		if status := f.status.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		id := strings.TrimPrefix(r.URL.Path, "/clients/")
		owner, ok := f.clients.Load(id)
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			reply(w, map[string]any{"code": "client_not_found"})
			return
		}
		reply(w, map[string]any{"id": id, "agent_id": owner})
	})
	return f
}
