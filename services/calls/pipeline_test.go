package calls_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/calls"
)

func handler(h http.HandlerFunc) *http.HandlerFunc { return &h }

func says(text string) *http.HandlerFunc {
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
	a := start(t, alone)
	for name, c := range map[string]struct {
		audio      func(t *testing.T) []byte
		transcribe *http.HandlerFunc
		chat       *http.HandlerFunc
		want       want
	}{
		"no speech":             {normal, says(" \n"), nil, want{"completed", "no_speech", nil, nil, 1, 0}},
		"too short":             {func(t *testing.T) []byte { return recording(t, 0.5) }, nil, nil, want{"completed", "too_short", nil, nil, 0, 0}},
		"damaged file":          {cutM4A, nil, nil, want{"failed", nil, "audio_unreadable", false, 0, 0}},
		"wrong key":             {normal, refuse(401, "invalid_api_key"), nil, want{"failed", nil, "provider_rejected", false, 1, 0}},
		"no such model":         {normal, nil, refuse(404, "model_not_found"), want{"failed", nil, "provider_rejected", false, 1, 1}},
		"silence":               {func(t *testing.T) []byte { return silence(t, 30) }, nil, nil, want{"completed", "no_speech", nil, nil, 0, 0}},
		"invented":              {normal, says("Thank you for watching!"), nil, want{"completed", "no_speech", nil, nil, 1, 0}},
		"repeated without end":  {normal, says("Hello Maria. " + strings.Repeat("I will send it. ", 40)), nil, want{"completed", "partial", nil, nil, 1, 1}},
		"no text":               {normal, handler(func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string]any{"language": "en"}) }), nil, want{"failed", nil, "provider_unavailable", true, 3, 0}},
		"down for too long":     {normal, refuse(500, "server_error"), nil, want{"failed", nil, "provider_unavailable", true, 3, 0}},
		"chat is down":          {normal, nil, refuse(502, ""), want{"failed", nil, "provider_unavailable", true, 1, 3}},
		"nothing installed":     {normal, refuse(503, "provider_unavailable"), nil, want{"failed", nil, "provider_unavailable", true, 1, 0}},
		"not JSON":              {normal, handler(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }), nil, want{"failed", nil, "provider_unavailable", true, 3, 0}},
		"insights do not match": {normal, nil, handler(func(w http.ResponseWriter, _ *http.Request) { reply(w, chatAnswer(map[string]any{"summary": 1})) }), want{"failed", nil, "insights_invalid", true, 1, 6}},
		"schema is ignored": {normal, nil, handler(func(w http.ResponseWriter, _ *http.Request) {
			reply(w, chatAnswer(map[string]any{"summary": "Short.", "x": 1}))
		}), want{"completed", "ok", nil, nil, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			a := a.lend(t)
			a.ai.onTranscribe.Store(c.transcribe)
			a.ai.onChat.Store(c.chat)
			got := a.ended(a.call(c.audio(t)))
			problem, _ := got["error"].(map[string]any)
			require.Equal(t, c.want, want{got["status"], got["outcome"], problem["code"], problem["retryable"], a.ai.transcriptions.Load(), a.ai.chats.Load()}, problem)
			if name == "nothing installed" {
				require.Equal(t, "install it", problem["message"])
			}
			require.Empty(t, a.temporary(), "temporary files")
		})
	}
}

// Because of a NUL in an answer, a call was once transcribing for ever.
func TestWhatAProviderReturnsCanAlwaysBeStored(t *testing.T) {
	t.Parallel()
	a := start(t)
	a.ai.onTranscribe.Store(handler(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{"text": "Hello\x00 \x1b[2J", "language": "Klingon", "segments": []map[string]any{{"start": -1, "end": 1e300, "text": "\x00\u2028"}}})
	}))
	a.ai.onChat.Store(handler(func(w http.ResponseWriter, _ *http.Request) {
		answer := insights()
		answer["title"], answer["summary"], answer["key_topics"], answer["language"] = "a\x00b", "c\x00\x7f", []string{"\x00", "d\x00"}, "german"
		completion := chatAnswer(answer)
		completion["model"] = strings.Repeat("m\x00", 300)
		reply(w, completion)
	}))
	got := a.ended(a.call(recording(t, 2)))
	require.Equal(t, "completed", got["status"], got["error"])
	require.Equal(t, "Hello [2J", got["raw_transcript"])
	require.Equal(t, "ab", got["title"])
	require.Equal(t, "c", got["summary"])
	require.Equal(t, []any{"d"}, got["key_topics"])
	require.Equal(t, "de", got["language"], "the transcription's is unknown, that of the insights is a name")
	require.Equal(t, map[string]any{"transcription": "gpt-transcribe", "chat": strings.Repeat("m", 100)}, got["models"])
}

// A call was once lost when the provider limited its requests for longer than all attempts took.
func TestAProviderThatIsBusyCostsNoAttempt(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"rate_limit_exceeded", "insufficient_quota"} {
		a := start(t, func(c *calls.Config) { c.RetryWaits = nil })
		a.ai.onTranscribe.Store(handler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0.01")
			(*refuse(http.StatusTooManyRequests, code))(w, nil)
		}))
		id := a.call(recording(t, 2))
		if code == "insufficient_quota" {
			a.Await("the requests are paused", func() bool {
				return strings.Contains(a.Get(identity.Caller{}, "/ready").Is(http.StatusOK).Body, "is used up")
			})
			a.AwaitRow(`select step = 'waiting' and lease_failures = 0 and status = 'transcribing' from calls`)
			continue
		}
		a.Await("it was refused", func() bool { return a.ai.transcriptions.Load() > 0 })
		a.ai.onTranscribe.Store(nil)
		got := a.ended(id)
		require.Equal(t, "completed", got["status"], got["error"])
		require.InDelta(t, 1, got["attempts"], 0)
	}
}

func TestAProviderThatIsDownForAMomentDelaysOnly(t *testing.T) {
	t.Parallel()
	a := start(t)
	failures := 2
	a.ai.onTranscribe.Store(handler(func(rw http.ResponseWriter, _ *http.Request) {
		if failures--; failures >= 0 {
			(*refuse(500, "server_error"))(rw, nil)
			return
		}
		reply(rw, map[string]any{"text": transcript})
	}))
	got := a.ended(a.call(recording(t, 2)))
	require.Equal(t, "completed", got["status"])
	require.InDelta(t, 3, got["attempts"], 0)
	require.Equal(t, []any{map[string]any{"start": 0.0, "end": 2.0, "speaker": nil, "text": transcript}}, got["segments"], "estimated, because the model returned no times")
}

func TestARetryOfFailedInsightsReusesTheTranscript(t *testing.T) {
	t.Parallel()
	a := start(t)
	a.ai.onChat.Store(refuse(401, "invalid_api_key"))
	id := a.call(recording(t, 2))
	failed := a.ended(id)
	require.Equal(t, "failed", failed["status"])
	require.Equal(t, transcript, failed["raw_transcript"])

	a.ai.onChat.Store(nil)
	retry := "/calls/" + id + "/retry"
	require.Equal(t, "pending", a.Do(a.Agent, http.MethodPost, retry, "").Is(http.StatusAccepted).Text("status"))
	require.Equal(t, "completed", a.ended(id)["status"])
	require.Equal(t, int64(1), a.ai.transcriptions.Load())

	again := a.Do(a.Agent, http.MethodPost, retry, `{"call_type":"demo","language":"DE"}`).Is(http.StatusAccepted)
	require.Equal(t, transcript, again.Object()["raw_transcript"], "until there is a new one")
	done := a.ended(id)
	require.Equal(t, "demo", done["call_type"])
	require.Equal(t, "de", done["language"])
	require.Equal(t, int64(2), a.ai.transcriptions.Load())
	require.Equal(t, []string{"language"}, a.Do(a.Agent, http.MethodPost, retry, `{"language":"xx"}`).Wrong())
}

// hang is a provider that never responds: the worker holds the call until something else happens.
func hang(begun chan<- struct{}) *http.HandlerFunc {
	return handler(func(_ http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-r.Context().Done()
	})
}

// working uploads a recording, and returns the id of its call once a worker waits for that response of the provider.
func (a *app) working(answer *atomic.Pointer[http.HandlerFunc]) (id string) {
	a.T.Helper()
	begun := make(chan struct{}, 10)
	answer.Store(hang(begun))
	id = a.call(recording(a.T, 2))
	<-begun
	answer.Store(nil)
	return id
}

func TestARestartContinuesTheWork(t *testing.T) {
	t.Parallel()
	a := start(t, alone)
	id := a.working(&a.ai.onChat)
	a.Do(a.Agent, http.MethodPost, "/calls/"+id+"/retry", "").Fails(http.StatusConflict, "call_busy")
	a.Stop()
	require.Equal(t, []bool{true}, pgtest.Column[bool](t, a.DB, `select lease_holder is null and lease_until is null from calls where id = $1`, id),
		"the lease was released, so that no worker waits for its expiry")
	a.start()
	got := a.ended(id)
	require.Equal(t, "completed", got["status"])
	require.Equal(t, int64(1), a.ai.transcriptions.Load(), "the transcript was not paid for twice")
	left, err := os.ReadDir(filepath.Join(a.cfg.TempDir, "convoflow-calls"))
	require.NoError(t, err)
	require.Len(t, left, 1, "the directory of the running process")
}

// A killed process no longer renews its lease: another worker takes over.
func TestACallOfADeadProcessIsTakenOver(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.working(&a.ai.onChat)
	_, err := a.DB.Conn(t.Context()).Exec(t.Context(), `update calls set lease_epoch = lease_epoch + 1, lease_until = now() - interval '1 second' where id = $1`, id)
	require.NoError(t, err)
	got := a.ended(id)
	require.Equal(t, "completed", got["status"])
	require.InDelta(t, 2, got["attempts"], 0)
	require.Equal(t, int64(1), a.ai.transcriptions.Load())
}

// Waiting calls once delayed the takeover of a dead worker's call by minutes. It takes a lease and a Reclaim: 20 s.
func TestThousandsOfWaitingCallsDoNotDelayATakeover(t *testing.T) {
	t.Parallel()
	a := start(t, alone)
	id := a.working(&a.ai.onChat)
	const waiting = 4000
	columns := pgtest.Column[string](t, a.DB, `
		select string_agg(column_name, ',') from information_schema.columns where table_schema = current_schema() and table_name = 'calls'
			and column_name not in ('id', 'status', 'lease_holder', 'lease_until', 'lease_epoch', 'due_at')`)[0]
	pgtest.Fill(t, a.DB,
		`insert into calls (id, status, lease_epoch, due_at, `+columns+`) select gen_random_uuid(), 'pending', 1, now() - interval '1 hour', `+columns+` from calls, generate_series(1, `+strconv.Itoa(waiting)+`)`,
		`insert into river_job (state, queue, kind, args, max_attempts, priority, scheduled_at)
			select 'available', 'calls_transcribe', 'calls.transcribe', jsonb_build_object('id', id, 'epoch', lease_epoch), 1000, 2, now() - interval '1 hour' from calls where status = 'pending'`,
		`update calls set lease_epoch = lease_epoch + 1, lease_until = now() - interval '1 second' where status = 'transcribing' and lease_holder is not null and id = '`+id+`'`)
	got := a.ended(id)
	require.Equal(t, "completed", got["status"])
	require.InDelta(t, 2, got["attempts"], 0)
	left := pgtest.Column[int](t, a.DB, `select count(*)::int from calls where status in ('pending', 'transcribing')`)[0]
	require.Greater(t, left, waiting*3/4, "before the others")
}

func TestACallCanBeDeletedWhileItIsTranscribed(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.working(&a.ai.onTranscribe)
	a.Do(a.Agent, http.MethodDelete, "/calls/"+id, "").Is(http.StatusNoContent)
	a.Get(a.Agent, "/calls/"+id).Fails(http.StatusNotFound, "call_not_found")
	a.Await("the recording is removed", func() bool { return len(a.files()) == 0 })
	messages := a.Follow(events.CallsTopic).Of(t, id, 3)
	var last events.Call
	require.NoError(t, json.Unmarshal(messages[2].Value, &last))
	require.Nil(t, last.Summary)
	a.Await("the worker stopped and removed its files", func() bool { return len(a.temporary()) == 0 })
}

func TestListsArePagedNewestFirst(t *testing.T) {
	t.Parallel()
	a := start(t)
	audio := recording(t, 0.3)
	var ids []string
	for range 5 {
		ids = append([]string{a.call(audio)}, ids...)
	}
	var listed []string
	for path := "/calls?limit=2"; path != ""; {
		page := a.Get(a.Agent, path).Is(http.StatusOK)
		listed = append(listed, page.IDs()...)
		path = page.Next()
	}
	require.Equal(t, ids, listed)
	require.Equal(t, ids[3:4], a.Get(a.Agent, "/calls?limit=1&skip=3").IDs())
	for _, wrong := range []string{"limit=501", "limit=0", "cursor=x", "status=done", "from=yesterday", "client_id=1", "sentiment=angry"} {
		a.Get(a.Agent, "/calls?"+wrong).Fails(http.StatusUnprocessableEntity, "validation_error")
	}
}
