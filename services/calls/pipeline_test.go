package calls_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/identity"
)

func handler(h http.HandlerFunc) *http.HandlerFunc { return &h }

func hear(text string) *http.HandlerFunc {
	return handler(func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]any{"text": text}) })
}

func TestHowCallsEnd(t *testing.T) {
	t.Parallel()
	type want struct {
		status, outcome, code any
		retryable             any
		transcriptions, chats int64
	}
	cutM4A := func(t *testing.T) []byte { return recording(t, 3, "-c:a", "aac", "-f", "ipod")[:2000] }
	normal := func(t *testing.T) []byte { return recording(t, 2) }
	for name, c := range map[string]struct {
		audio      func(t *testing.T) []byte
		transcribe *http.HandlerFunc
		chat       *http.HandlerFunc
		want       want
	}{
		"nobody speaks":       {normal, hear(" \n"), nil, want{"completed", "no_speech", nil, nil, 1, 0}},
		"too short":           {func(t *testing.T) []byte { return recording(t, 0.5) }, nil, nil, want{"completed", "too_short", nil, nil, 0, 0}},
		"damaged file":        {cutM4A, nil, nil, want{"failed", nil, "audio_unreadable", false, 0, 0}},
		"wrong key":           {normal, refuse(401, "invalid_api_key"), nil, want{"failed", nil, "provider_rejected", false, 1, 0}},
		"no such model":       {normal, nil, refuse(404, "model_not_found"), want{"failed", nil, "provider_rejected", false, 1, 1}},
		"quota used up":       {normal, refuse(429, "insufficient_quota"), nil, want{"failed", nil, "provider_quota", true, 1, 0}},
		"busy for too long":   {normal, refuse(429, "rate_limit_exceeded"), nil, want{"failed", nil, "provider_unavailable", true, 3, 0}},
		"down for too long":   {normal, refuse(500, "server_error"), nil, want{"failed", nil, "provider_unavailable", true, 3, 0}},
		"chat is down":        {normal, nil, refuse(502, ""), want{"failed", nil, "provider_unavailable", true, 1, 3}},
		"nothing installed":   {normal, refuse(503, "provider_unavailable"), nil, want{"failed", nil, "provider_unavailable", true, 1, 0}},
		"not JSON":            {normal, handler(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }), nil, want{"failed", nil, "provider_unavailable", true, 3, 0}},
		"insights do not fit": {normal, nil, handler(func(w http.ResponseWriter, _ *http.Request) { reply(w, chatAnswer(map[string]any{"summary": 1})) }), want{"failed", nil, "insights_invalid", true, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.ai.onTranscribe.Store(c.transcribe)
			w.ai.onChat.Store(c.chat)
			me := w.agent(t, identity.Agent)
			up := me.upload(t, c.audio(t), nil, nil)
			require.Equal(t, http.StatusAccepted, up.status, string(up.raw))
			got := me.ended(t, up.body["id"].(string))
			problem, _ := got["error"].(map[string]any)
			require.Equal(t, c.want, want{got["status"], got["outcome"], problem["code"], problem["retryable"], w.ai.transcriptions.Load(), w.ai.chats.Load()}, problem)
			if name == "nothing installed" {
				require.Equal(t, "install it", problem["message"])
			}
			left, err := filepath.Glob(filepath.Join(w.cfg.TempDir, "convoflow-calls", "*", "call-*"))
			require.NoError(t, err)
			require.Empty(t, left, "temporary files")
		})
	}
}

func TestAProviderThatIsDownForAMomentDelaysOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	failures := 2
	w.ai.onTranscribe.Store(handler(func(rw http.ResponseWriter, _ *http.Request) {
		if failures--; failures >= 0 {
			(*refuse(500, "server_error"))(rw, nil)
			return
		}
		reply(rw, map[string]any{"text": transcript})
	}))
	me := w.agent(t, identity.Agent)
	got := me.ended(t, me.upload(t, recording(t, 2), nil, nil).body["id"].(string))
	require.Equal(t, "completed", got["status"])
	require.InDelta(t, 3, got["attempts"], 0)
	require.Nil(t, got["segments"], "the model gave no times")
}

func TestARetryOfFailedInsightsKeepsTheTranscript(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ai.onChat.Store(refuse(401, "invalid_api_key"))
	me := w.agent(t, identity.Agent)
	id := me.upload(t, recording(t, 2), nil, nil).body["id"].(string)
	failed := me.ended(t, id)
	require.Equal(t, "failed", failed["status"])
	require.Equal(t, transcript, failed["raw_transcript"])

	w.ai.onChat.Store(nil)
	retried := me.do(t, http.MethodPost, "/calls/"+id+"/retry", nil, nil)
	require.Equal(t, http.StatusAccepted, retried.status, string(retried.raw))
	require.Equal(t, "pending", retried.body["status"])
	require.Equal(t, "completed", me.ended(t, id)["status"])
	require.Equal(t, int64(1), w.ai.transcriptions.Load())

	again := me.do(t, http.MethodPost, "/calls/"+id+"/retry", jsonBody(t, map[string]string{"call_type": "demo", "language": "de"}), map[string]string{"Content-Type": "application/json"})
	require.Equal(t, http.StatusAccepted, again.status, string(again.raw))
	require.Nil(t, again.body["raw_transcript"])
	done := me.ended(t, id)
	require.Equal(t, "demo", done["call_type"])
	require.Equal(t, "de", done["language"])
	require.Equal(t, int64(2), w.ai.transcriptions.Load())
	wrong := me.do(t, http.MethodPost, "/calls/"+id+"/retry", jsonBody(t, map[string]string{"language": "xx"}), map[string]string{"Content-Type": "application/json"})
	require.Equal(t, http.StatusUnprocessableEntity, wrong.status)
}

// A provider that never answers: the worker holds the call until something else happens.
func hang(begun chan<- struct{}) *http.HandlerFunc {
	return handler(func(_ http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-r.Context().Done()
	})
}

func TestARestartGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begun := make(chan struct{}, 10)
	w.ai.onChat.Store(hang(begun))
	me := w.agent(t, identity.Agent)
	id := me.upload(t, recording(t, 2), nil, nil).body["id"].(string)
	<-begun
	busy := me.do(t, http.MethodPost, "/calls/"+id+"/retry", nil, nil)
	require.Equal(t, http.StatusConflict, busy.status)
	require.Equal(t, "call_busy", busy.body["code"])
	w.stop()
	w.ai.onChat.Store(nil)
	begin := time.Now()
	w.start(t)
	got := me.ended(t, id)
	require.Equal(t, "completed", got["status"])
	require.Equal(t, int64(1), w.ai.transcriptions.Load(), "the transcript was not paid for twice")
	require.Less(t, time.Since(begin), 10*time.Second, "the lease was handed back, not waited for")
	left, err := os.ReadDir(filepath.Join(w.cfg.TempDir, "convoflow-calls"))
	require.NoError(t, err)
	require.Len(t, left, 1, "the place of the one that runs")
}

func TestACallCanBeDeletedWhileItIsTranscribed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begun := make(chan struct{}, 10)
	w.ai.onTranscribe.Store(hang(begun))
	me := w.agent(t, identity.Agent)
	id := me.upload(t, recording(t, 2), nil, nil).body["id"].(string)
	<-begun
	require.Equal(t, http.StatusNoContent, me.do(t, http.MethodDelete, "/calls/"+id, nil, nil).status)
	require.Equal(t, "call_not_found", me.get(t, "/calls/"+id).body["code"])
	require.Empty(t, w.files(t))
	messages := bustest.Read(t, w.cfg.Kafka.Brokers, events.CallsTopic, 3)
	var last events.Call
	require.NoError(t, json.Unmarshal(messages[2].Value, &last))
	require.Nil(t, last.Summary)
	require.Eventually(t, func() bool {
		left, err := filepath.Glob(filepath.Join(w.cfg.TempDir, "convoflow-calls", "*", "call-*"))
		return err == nil && len(left) == 0
	}, patience, 20*time.Millisecond, "the worker stopped and cleaned up")
}

func TestListsArePagedNewestFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.agent(t, identity.Agent)
	audio := recording(t, 0.3)
	var ids []string
	for range 5 {
		ids = append([]string{me.upload(t, audio, nil, nil).body["id"].(string)}, ids...)
	}
	var seen []string
	path := "/calls?limit=2"
	for path != "" {
		page := me.get(t, path)
		require.Equal(t, http.StatusOK, page.status)
		var items []map[string]any
		require.NoError(t, json.Unmarshal(page.raw, &items))
		for _, item := range items {
			seen = append(seen, item["id"].(string))
		}
		path = next(page.header.Get("Link"))
	}
	require.Equal(t, ids, seen)
	var skipped []map[string]any
	require.NoError(t, json.Unmarshal(me.get(t, "/calls?limit=1&skip=3").raw, &skipped))
	require.Equal(t, ids[3], skipped[0]["id"])
	for _, wrong := range []string{"limit=501", "limit=0", "cursor=x", "status=done", "from=yesterday", "client_id=1", "sentiment=angry"} {
		require.Equal(t, http.StatusUnprocessableEntity, me.get(t, "/calls?"+wrong).status, wrong)
	}
}
