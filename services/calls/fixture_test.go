package calls_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const patience = 30 * time.Second

// world is the service with real parts around it and fakes of its neighbours.
type world struct {
	cfg     calls.Config
	url     string
	signer  token.Signer
	ai      *fakeAI
	crm     *fakeCRM
	storage string
	stop    func()
}

func newWorld(t *testing.T, change ...func(*calls.Config)) *world {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	w := &world{signer: token.Signer{KeyID: "k1", Key: private, Clock: clock.System{}}, ai: newFakeAI(t), crm: newFakeCRM(t), storage: t.TempDir()}
	auth := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(token.JWKS{Keys: []token.JWK{token.PublicJWK("k1", public)}})
	}))
	t.Cleanup(auth.Close)
	cfg := calls.Defaults()
	cfg.Database.URL = conf.Secret(pgtest.Schema(t))
	cfg.Kafka.Brokers = bustest.Broker(t)
	cfg.SecretKey = "7Qm2xV9pLr4TzW8kYb3NcF6hJd1SgA5e"
	cfg.Access.AuthURL, cfg.CRMURL = auth.URL, w.crm.url
	cfg.StorageURL = "file://" + w.storage
	cfg.TempDir = t.TempDir()
	cfg.OpenAI.APIKey, cfg.OpenAI.BaseURL = "sk-test", w.ai.url
	cfg.RetryWaits = []time.Duration{10 * time.Millisecond, 10 * time.Millisecond}
	cfg.MaxAudioSizeMB = 2
	for _, f := range change {
		f(&cfg)
	}
	require.Empty(t, cfg.Check())
	w.cfg = cfg
	w.start(t)
	return w
}

// start runs the service until stop, or the end of the test.
func (w *world) start(t *testing.T) {
	t.Helper()
	w.cfg.HTTP.Listener, w.cfg.Admin.Listener = listen(t), listen(t)
	app, err := calls.New(t.Context(), w.cfg, telemetry.Nop())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(w.stop)
	w.url = "http://" + app.Addr()
	require.Eventually(t, func() bool { return app.Ready(t.Context()) == nil }, patience, 10*time.Millisecond)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

// agent is somebody who calls the API.
type agent struct {
	w     *world
	id    string
	token string
}

func (w *world) agent(t *testing.T, role identity.Role) agent {
	t.Helper()
	id := event.NewID()
	text, err := w.signer.Sign(identity.Caller{AgentID: id, SessionID: event.NewID(), Role: role}, time.Hour)
	require.NoError(t, err)
	return agent{w, id, text}
}

type answer struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

func (a agent) do(t *testing.T, method, path string, body io.Reader, header map[string]string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, a.w.url+path, body)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+a.token)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	out := answer{status: res.StatusCode, header: res.Header, raw: raw}
	_ = json.Unmarshal(raw, &out.body)
	return out
}

func (a agent) get(t *testing.T, path string) answer {
	t.Helper()
	return a.do(t, http.MethodGet, path, nil, nil)
}

func (a agent) upload(t *testing.T, audio []byte, fields map[string]string, header map[string]string) answer {
	t.Helper()
	body, contentType := form(t, "call.ogg", audio, fields)
	all := map[string]string{"Content-Type": contentType}
	maps.Copy(all, header)
	return a.do(t, http.MethodPost, "/calls/upload", body, all)
}

// form has the recording before the fields, which is the harder order.
func form(t *testing.T, name string, audio []byte, fields map[string]string) (*bytes.Buffer, string) {
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

// ended waits for the end of a call.
func (a agent) ended(t *testing.T, id string) map[string]any {
	t.Helper()
	return a.until(t, id, "completed", "failed")
}

func (a agent) until(t *testing.T, id string, statuses ...string) map[string]any {
	t.Helper()
	var last answer
	require.Eventually(t, func() bool {
		last = a.get(t, "/calls/"+id)
		for _, s := range statuses {
			if last.body["status"] == s {
				return true
			}
		}
		return false
	}, patience, 20*time.Millisecond, "call %s never was %v: %s", id, statuses, last.raw)
	return last.body
}

// files are all regular files below the storage directory.
func (w *world) files(t *testing.T) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(w.storage, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, strings.TrimPrefix(path, w.storage+"/"))
		}
		return err
	}))
	return found
}

// recording makes audio of that many seconds.
func recording(t *testing.T, seconds float64, args ...string) []byte {
	t.Helper()
	if len(args) == 0 {
		args = []string{"-c:a", "libopus", "-f", "ogg"}
	}
	out := filepath.Join(t.TempDir(), "audio")
	all := append([]string{"-nostdin", "-v", "error", "-f", "lavfi", "-i", fmt.Sprintf("sine=frequency=440:duration=%f", seconds)}, args...)
	output, err := exec.CommandContext(t.Context(), "ffmpeg", append(all, out)...).CombinedOutput()
	require.NoError(t, err, string(output))
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	return raw
}

// fakeAI speaks as much of OpenAI's API as the service needs.
type fakeAI struct {
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
	}
}

func newFakeAI(t *testing.T) *fakeAI {
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
		_, _ = io.Copy(io.Discard, r.Body) // without it a client that has gone goes unnoticed
		f.chats.Add(1)
		if h := f.onChat.Load(); h != nil {
			(*h)(w, r)
			return
		}
		reply(w, chatAnswer(insights()))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections() // Close waits for answers that a test holds back
		server.Close()
	})
	f.url = server.URL + "/v1"
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

// fakeCRM knows clients by id.
type fakeCRM struct {
	url     string
	asked   atomic.Int64
	clients sync.Map // id to agent id
}

func newFakeCRM(t *testing.T) *fakeCRM {
	t.Helper()
	f := &fakeCRM{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		id := strings.TrimPrefix(r.URL.Path, "/clients/")
		owner, ok := f.clients.Load(id)
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			reply(w, map[string]any{"code": "client_not_found"})
			return
		}
		reply(w, map[string]any{"id": id, "agent_id": owner})
	}))
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func jsonBody(t *testing.T, v any) io.Reader {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	return bytes.NewReader(raw)
}

// next is the path of a Link header.
func next(link string) string {
	path, _, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	return path
}
