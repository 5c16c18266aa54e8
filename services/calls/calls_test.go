package calls_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/network"
	"github.com/convoflow/convoflow/libs/peer"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/calls/internal/audio"
	"github.com/convoflow/convoflow/services/calls/internal/bucket"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/speech"
)

func TestARecordingBecomesATranscriptAndInsights(t *testing.T) {
	t.Parallel()
	a := start(t)
	client := event.NewID()
	a.crm.clients.Store(client, a.Agent.AgentID)

	require.Equal(t, []string{"client_id"}, a.upload(a.Agent, recording(t, 3.2), map[string]string{"client_id": strings.ToUpper(client)}).Wrong(), "an id has one spelling")
	up := a.upload(a.Agent, recording(t, 3.2), map[string]string{
		"client_id": client, "call_type": "demo", "call_tag": "no_answer", "recorded_at": "2026-11-24T09:30:00", "duration_seconds": "2.5",
	}).Is(http.StatusAccepted)
	require.Equal(t, "pending", up.Text("status"))
	require.Equal(t, client, up.Text("client_id"))
	require.InDelta(t, 3, up.Object()["duration_seconds"], 0, "rounded")
	id := up.Text("id")

	got := a.ended(id)
	for _, volatile := range []string{"size_bytes", "created_at", "updated_at", "completed_at"} {
		require.NotNil(t, got[volatile], volatile)
		delete(got, volatile)
	}
	want := map[string]any{
		"id": id, "agent_id": a.Agent.AgentID, "client_id": client, "lead_id": nil, "title": "Yearly plan", "call_type": "demo", "call_tag": "no_answer",
		"status": "completed", "error": nil, "outcome": "ok", "progress": 1.0, "audio_filename": "call.ogg", "audio_url": "/calls/" + id + "/audio",
		"content_type": "audio/ogg", "notes": nil, "pabbly_sent": false, "duration_seconds": 3.0, "language": "en", "raw_transcript": transcript, "transcription": transcript,
		"segments": []any{map[string]any{"start": 0.5, "end": 2.5, "speaker": nil, "text": transcript}},
		"summary":  "The customer wants the yearly plan and finds it expensive.", "action_items": []any{"Send an offer"}, "sentiment": "positive",
		"key_topics": []any{"price"}, "next_step": "Send an offer", "intent_category": "interested", "intent_confidence": 0.8, "interest_level": "high",
		"objections": []any{"price"}, "callback_time": "2026-12-01T09:00:00Z", "insights": map[string]any{
			"features_shown": []any{}, "reactions": []any{}, "concerns": []any{}, "integration_questions": []any{}, "competitor_mentions": []any{}, "pricing_discussed": nil,
		}, "evidence": []any{map[string]any{"kind": "objection", "claim": "price", "quote": "The price is too high", "start": 0.5}},
		"coverage": 1.0, "legal_hold": false, "step": nil, "speakers": map[string]any{}, "talk": nil, "attempts": 1.0,
		"models": map[string]any{"transcription": "gpt-transcribe", "chat": "gpt-4o-mini-2024-07-18"}, "cost_usd": nil, "recorded_at": "2026-11-24T09:30:00Z",
	}
	require.Equal(t, want, got)

	published := a.Follow(events.CallsTopic).Of(t, id, 3)
	for _, m := range published {
		var payload events.Call
		require.NoError(t, json.Unmarshal(m.Value, &payload))
		require.Equal(t, id, payload.CallID)
		require.Equal(t, "no_answer", *payload.CallTag)
		require.NotNil(t, payload.RecordedAt)
	}
	var last events.Call
	require.NoError(t, json.Unmarshal(published[2].Value, &last))
	require.InDelta(t, 3.2, *last.DurationSeconds, 0.1)
	require.NotEqual(t, 3.0, *last.DurationSeconds, "events have fractions")
	require.Equal(t, []string{"call.uploaded 1", "call.transcribing 2", "transcription.completed 5"}, a.Follow(events.CallsTopic).Events(t, id, 3))

	list := a.Get(a.Agent, "/calls?status=completed&q=yearly+plan&client_id="+client).Is(http.StatusOK)
	var items []map[string]any
	require.NoError(t, json.Unmarshal([]byte(list.Body), &items))
	require.Len(t, items, 1)
	for _, name := range []string{"raw_transcript", "segments", "insights", "evidence", "transcription"} {
		require.NotContains(t, items[0], name)
	}
	require.Equal(t, "[]", a.Get(a.Agent, "/calls?q=bicycle").Body)
}

func TestWhatAnUploadLeavesOutHasDefaults(t *testing.T) {
	t.Parallel()
	a := start(t)
	got := a.upload(a.Agent, recording(t, 2), map[string]string{"client_id": "", "language": " ", "call_tag": ""}).Is(http.StatusAccepted).Object()
	require.Equal(t, "default", got["call_type"])
	require.Equal(t, "connected", got["call_tag"])
	require.Equal(t, got["created_at"], got["recorded_at"])
	for _, name := range []string{"client_id", "lead_id", "language", "duration_seconds"} {
		require.Nil(t, got[name], name)
	}
	for _, name := range []string{"action_items", "key_topics", "objections", "segments", "evidence"} {
		require.Equal(t, []any{}, got[name], "%s: a list is never null", name)
	}
	require.Equal(t, map[string]any{}, got["insights"])
	upper := a.upload(a.Agent, recording(t, 2), map[string]string{"language": "DE"}).Is(http.StatusAccepted)
	require.Equal(t, "de", upper.Text("language"))
}

func TestOnlyTheOwnerAndAdminsSeeACall(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.call(recording(t, 2))
	a.ended(id)
	for _, path := range []string{"/calls/" + id, "/calls/" + id + "/audio"} {
		a.Get(a.Agent, path).Is(http.StatusOK)
		a.Get(a.Admin, path).Is(http.StatusOK)
		a.Get(a.Other, path).Fails(http.StatusForbidden, "call_forbidden")
	}
	a.Get(a.Agent, "/calls/"+event.NewID()).Fails(http.StatusNotFound, "call_not_found")
	a.Get(a.Agent, "/calls/7").Fails(http.StatusNotFound, "call_not_found")
	require.Equal(t, "[]", a.Get(a.Other, "/calls").Body)
	require.Equal(t, []string{id}, a.Get(a.Admin, "/calls").IDs())

	a.Do(a.Other, http.MethodPost, "/calls/"+id+"/retry", "").Fails(http.StatusForbidden, "call_forbidden")
	a.Do(a.Other, http.MethodDelete, "/calls/"+id, "").Fails(http.StatusForbidden, "call_forbidden")
	require.Len(t, a.files(), 1)
	a.Do(a.Agent, http.MethodDelete, "/calls/"+id, "").Is(http.StatusNoContent)
	for _, path := range []string{"/calls/" + id, "/calls/" + id + "/audio"} {
		a.Get(a.Agent, path).Fails(http.StatusNotFound, "call_not_found")
	}
	a.Do(a.Agent, http.MethodDelete, "/calls/"+id, "").Fails(http.StatusNotFound, "call_not_found")
	a.Await("the recording is removed", func() bool { return len(a.files()) == 0 })
	a.AwaitRow(`select not exists (select from erasures)`)
}

// Apps poll a call every 3 s. While nothing changes, a poll is one cheap query: the lock proves that no transcript is loaded.
func TestPollingACallLoadsNoTranscript(t *testing.T) {
	t.Parallel()
	a := start(t)
	id := a.call(recording(t, 2))
	a.ended(id)
	path := "/calls/" + id
	read := a.Get(a.Agent, path).Is(http.StatusOK)
	tag := read.Header.Get("ETag")
	require.NotEmpty(t, tag)
	require.NoError(t, a.DB.InTx(t.Context(), func(ctx context.Context) error {
		if _, err := a.DB.Conn(ctx).Exec(ctx, `lock table transcripts in access exclusive mode`); err != nil {
			return err
		}
		poll := a.Get(a.Agent, path, "If-None-Match", tag).Is(http.StatusNotModified)
		require.Empty(t, poll.Body)
		require.Equal(t, tag, poll.Header.Get("ETag"))
		a.Get(a.Admin, path, "If-None-Match", tag).Is(http.StatusNotModified)
		a.Get(a.Other, path, "If-None-Match", tag).Fails(http.StatusForbidden, "call_forbidden")
		a.Get(a.Agent, "/calls/"+event.NewID(), "If-None-Match", tag).Fails(http.StatusNotFound, "call_not_found")
		return nil
	}))
	a.Do(a.Agent, http.MethodPost, path+"/retry", "").Is(http.StatusAccepted)
	changed := a.Get(a.Agent, path, "If-None-Match", tag).Is(http.StatusOK)
	require.NotEqual(t, tag, changed.Header.Get("ETag"))
}

func TestTheRecordingIsServedInRanges(t *testing.T) {
	t.Parallel()
	a := start(t)
	audio := recording(t, 2)
	path := "/calls/" + a.call(audio) + "/audio"

	whole := a.Get(a.Agent, path).Is(http.StatusOK)
	require.Equal(t, string(audio), whole.Body)
	require.Equal(t, "audio/ogg", whole.Header.Get("Content-Type"))
	require.Equal(t, `inline; filename=call.ogg`, whole.Header.Get("Content-Disposition"))

	part := a.Get(a.Agent, path, "Range", "bytes=10-19").Is(http.StatusPartialContent)
	require.Equal(t, string(audio[10:20]), part.Body)
	tail := a.Get(a.Agent, path, "Range", "bytes=-5")
	require.Equal(t, string(audio[len(audio)-5:]), tail.Body)

	beyond := a.Get(a.Agent, path, "Range", "bytes=99999999-").Fails(http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable")
	require.Equal(t, "application/json", beyond.Header.Get("Content-Type"))
	require.Empty(t, beyond.Header.Get("Content-Disposition"))
	require.NotEmpty(t, beyond.Header.Get("Content-Range"))
	for _, nothing := range []string{"bytes=-0", "bytes= -00 ", "bytes=-0,-0", "bytes=-0,99999999-"} {
		refused := a.Get(a.Agent, path, "Range", nothing).Fails(http.StatusRequestedRangeNotSatisfiable, "range_not_satisfiable")
		require.Equal(t, fmt.Sprintf("bytes */%d", len(audio)), refused.Header.Get("Content-Range"))
	}
	require.Equal(t, string(audio[3:5]), a.Get(a.Agent, path, "Range", "bytes=-0,3-4").Is(http.StatusPartialContent).Body, "the other range")
	a.Get(a.Agent, path, "Range", "bytes=-0", "If-Range", `"another"`).Is(http.StatusOK)
	require.Equal(t, "POST", a.Get(a.Agent, "/calls/upload").Fails(http.StatusMethodNotAllowed, "method_not_allowed").Header.Get("Allow"))
	a.Get(a.Agent, path, "If-None-Match", whole.Header.Get("ETag")).Is(http.StatusNotModified)
}

func TestUploadsWithWrongFieldsAreRefusedAllAtOnce(t *testing.T) {
	t.Parallel()
	a := start(t)
	stranger := event.NewID()
	a.crm.clients.Store(stranger, event.NewID())
	ogg := recording(t, 2)

	refused := a.upload(a.Agent, []byte("just a text, named call.mp3"), map[string]string{
		"client_id": "7", "call_type": "chat", "call_tag": "x", "language": "english", "duration_seconds": "-1", "recorded_at": "yesterday",
	}).Fails(http.StatusUnprocessableEntity, "validation_error")
	var problem struct {
		Errors []struct {
			Type string
			Loc  []string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(refused.Body), &problem))
	var wrong []string
	for _, e := range problem.Errors {
		wrong = append(wrong, e.Type+" "+strings.Join(e.Loc, "."))
	}
	require.Equal(t, []string{
		"audio_format body.audio", "enum body.call_tag", "enum body.call_type", "uuid_parsing body.client_id",
		"greater_than_equal body.duration_seconds", "value_error body.language", "datetime_parsing body.recorded_at",
	}, wrong)
	for name, value := range map[string]string{"language": "xx", "duration_seconds": "86401", "recorded_at": "24.11.2026"} {
		require.Equal(t, []string{name}, a.upload(a.Agent, ogg, map[string]string{name: value}).Wrong())
	}

	for name, c := range map[string]struct {
		audio  []byte
		fields map[string]string
		header []string
		status int
		code   string
	}{
		"no recording":       {nil, map[string]string{"call_type": "demo"}, nil, 422, "validation_error"},
		"empty recording":    {[]byte{}, nil, nil, 422, "validation_error"},
		"unknown client":     {ogg, map[string]string{"client_id": event.NewID()}, nil, 404, "client_not_found"},
		"other's client":     {ogg, map[string]string{"client_id": stranger}, nil, 403, "client_forbidden"},
		"any lead":           {ogg, map[string]string{"lead_id": event.NewID()}, nil, 404, "lead_not_found"},
		"not multipart":      {ogg, nil, []string{"Content-Type", "application/json"}, 415, "unsupported_content_type"},
		"no boundary":        {ogg, nil, []string{"Content-Type", "multipart/form-data"}, 400, "malformed_form"},
		"another boundary":   {ogg, nil, []string{"Content-Type", "multipart/form-data; boundary=x"}, 400, "malformed_form"},
		"long key":           {ogg, nil, []string{"Idempotency-Key", strings.Repeat("k", 300)}, 422, "validation_error"},
		"over the limit":     {slices.Concat(ogg, make([]byte, 2<<20)), nil, nil, 413, "audio_too_large"},
		"far over the limit": {slices.Concat(ogg, make([]byte, 4<<20)), nil, nil, 413, "audio_too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			a := a.in(t)
			a.upload(a.Agent, c.audio, c.fields, c.header...).Fails(c.status, c.code)
		})
	}
	require.Empty(t, a.files(), "nothing of a refused upload remains")
	require.Equal(t, "[]", a.Get(a.Agent, "/calls").Body)
}

func TestWhoseClientItIsIsLearnedOnceAndFollowsTheEvents(t *testing.T) {
	t.Parallel()
	a := start(t)
	audio, mine, early := recording(t, 0.3), event.NewID(), event.NewID()
	a.crm.clients.Store(mine, a.Agent.AgentID)
	for range 2 {
		a.upload(a.Agent, audio, map[string]string{"client_id": mine}, "Idempotency-Key", event.NewID()).Is(http.StatusAccepted)
	}
	require.Equal(t, int64(1), a.crm.requests.Load(), "then there is a copy")

	changed := events.Client{ClientID: early, Version: 1, AgentID: a.Agent.AgentID, Name: "Priya"}
	a.Publish(events.ClientCreated.New(a.now(), changed))
	a.AwaitRow(`select exists (select from clients where id = $1)`, early)
	a.crm.status.Store(http.StatusInternalServerError)
	a.upload(a.Agent, audio, map[string]string{"client_id": early}).Is(http.StatusAccepted)
	a.upload(a.Other, audio, map[string]string{"client_id": early}).Fails(http.StatusForbidden, "client_forbidden")
	a.upload(a.Admin, audio, map[string]string{"client_id": early}).Is(http.StatusAccepted)

	deleted := events.Client{ClientID: mine, Version: 2, AgentID: a.Agent.AgentID}
	a.Publish(events.ClientDeleted.New(a.now(), deleted))
	a.AwaitRow(`select deleted from clients where id = $1`, mine)
	a.upload(a.Agent, audio, map[string]string{"client_id": mine}).Fails(http.StatusNotFound, "client_not_found")
	require.Equal(t, int64(1), a.crm.requests.Load())

	a.crm.status.Store(http.StatusForbidden)
	a.upload(a.Agent, audio, map[string]string{"client_id": event.NewID()}).Fails(http.StatusForbidden, "client_forbidden")
	a.crm.status.Store(http.StatusInternalServerError)
	files := len(a.files())
	a.upload(a.Agent, audio, map[string]string{"client_id": event.NewID()}).Fails(http.StatusServiceUnavailable, "service_unavailable")
	require.Len(t, a.files(), files, "an upload that was not tried leaves no file")
	require.Empty(t, pgtest.Column[string](t, a.DB, `select id::text from calls where agent_id = $1`, a.Other.AgentID))
}

// A transaction that waits for another system would hold a connection and locks.
func TestNothingOutsideIsCalledInsideATransaction(t *testing.T) {
	t.Parallel()
	a := start(t)
	recordings, err := bucket.Open(t.Context(), a.cfg.StorageURL, 1<<20, audio.Sniff)
	require.NoError(t, err)
	t.Cleanup(recordings.Close)
	provider := speech.Provider{BaseURL: a.ai.url, Key: "sk-test", Model: "whisper-1"}
	analyst, err := speech.NewAnalyst(provider, clock.System{}, a.Tel)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "speech.ogg")
	require.NoError(t, os.WriteFile(file, recording(t, 1), 0o600))
	require.NoError(t, a.DB.InTx(identity.With(t.Context(), a.Agent), func(ctx context.Context) error {
		_, stored := recordings.Store(ctx, "2026/11/x", bytes.NewReader(recording(t, 1)))
		_, opened := recordings.Open(ctx, "2026/11/x")
		_, transcribed := speech.NewTranscriber(provider, clock.System{}, a.Tel).Send(ctx, call.Chunk{Path: file}, nil, "")
		_, analysed := analyst.Send(ctx, call.Question{Transcript: "x"}, "")
		crm := peer.New("crm", a.crm.url, a.Tel)
		_, learned := peer.Fetch[call.Client](crm, "/clients")(ctx, event.NewID())
		_, found := recordings.Has(ctx, bucket.Object{Key: "2026/11/x"})
		for what, err := range map[string]error{
			"find": found, "restore": recordings.Restore(ctx, "2026/11/x", strings.NewReader("x")),
			"back up": recordings.All(ctx, func(bucket.Object, func(io.Writer) error) error { return nil }),
			"store":   stored, "open": opened, "remove": recordings.Remove(ctx, "2026/11/x"), "transcribe": transcribed, "analyse": analysed, "crm": learned,
			"ask crm": crm.Ask(ctx, "/internal/questions", "x", &call.Client{}),
			"list":    recordings.List(ctx, "2026/11/", a.now(), func([]string) error { return nil }),
		} {
			require.ErrorIs(t, err, network.ErrInTransaction, what)
		}
		return nil
	}))
	require.Zero(t, a.ai.transcriptions.Load()+a.ai.chats.Load()+a.crm.requests.Load())
	require.Empty(t, a.files())
}
