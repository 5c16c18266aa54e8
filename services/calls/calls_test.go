package calls_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
)

func TestARecordingBecomesATranscriptAndInsights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.agent(t, identity.Agent)
	client := event.NewID()
	w.crm.clients.Store(client, me.id)

	up := me.upload(t, recording(t, 3), map[string]string{"client_id": client, "call_type": "demo", "call_tag": "connected", "recorded_at": "2026-11-24T09:30:00"}, nil)
	require.Equal(t, http.StatusAccepted, up.status, string(up.raw))
	require.Equal(t, "pending", up.body["status"])
	id := up.body["id"].(string)

	got := me.ended(t, id)
	require.NotEmpty(t, got["duration_seconds"])
	require.InDelta(t, 3, got["duration_seconds"], 0.1)
	for _, volatile := range []string{"duration_seconds", "size_bytes", "created_at", "updated_at", "completed_at"} {
		require.NotNil(t, got[volatile], volatile)
		delete(got, volatile)
	}
	want := map[string]any{
		"id": id, "agent_id": me.id, "client_id": client, "lead_id": nil, "title": "Yearly plan", "call_type": "demo", "call_tag": "connected",
		"status": "completed", "error": nil, "outcome": "ok", "progress": 1.0, "audio_filename": "call.ogg", "audio_url": "/calls/" + id + "/audio",
		"content_type": "audio/ogg", "language": "en", "raw_transcript": transcript, "transcription": transcript,
		"segments": []any{map[string]any{"start": 0.5, "end": 2.5, "speaker": nil, "text": transcript}},
		"summary":  "The customer wants the yearly plan and finds it expensive.", "action_items": []any{"Send an offer"}, "sentiment": "positive",
		"key_topics": []any{"price"}, "next_step": "Send an offer", "intent_category": "interested", "intent_confidence": 0.8, "interest_level": "high",
		"objections": []any{"price"}, "callback_time": "2026-12-01T09:00:00Z", "insights": nil, "evidence": nil, "attempts": 1.0,
		"models": map[string]any{"transcription": "whisper-1", "chat": "gpt-4o-mini-2024-07-18"}, "cost_usd": nil, "recorded_at": "2026-11-24T09:30:00Z",
	}
	require.Equal(t, want, got)

	var types []string
	for _, m := range bustest.Read(t, w.cfg.Kafka.Brokers, events.CallsTopic, 3) {
		var payload events.Call
		require.NoError(t, json.Unmarshal(m.Value, &payload))
		require.Equal(t, id, payload.CallID)
		for _, h := range m.Headers {
			if h.Key == "ce_type" {
				types = append(types, string(h.Value))
			}
		}
	}
	require.Equal(t, []string{"call.uploaded", "call.transcribing", "transcription.completed"}, types)

	list := me.get(t, "/calls?status=completed&q=yearly+plan&client_id="+client)
	var items []map[string]any
	require.NoError(t, json.Unmarshal(list.raw, &items))
	require.Len(t, items, 1)
	for _, name := range []string{"raw_transcript", "segments", "insights", "evidence", "transcription"} {
		require.NotContains(t, items[0], name)
	}
	require.Equal(t, "[]\n", strings.TrimSpace(string(me.get(t, "/calls?q=bicycle").raw))+"\n")
}

func TestOnlyTheOwnerAndAdminsSeeACall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me, other, admin := w.agent(t, identity.Agent), w.agent(t, identity.Agent), w.agent(t, identity.Admin)
	id := me.upload(t, recording(t, 2), nil, nil).body["id"].(string)
	me.ended(t, id)
	for _, path := range []string{"/calls/" + id, "/calls/" + id + "/audio"} {
		require.Equal(t, http.StatusOK, me.get(t, path).status)
		require.Equal(t, http.StatusOK, admin.get(t, path).status)
		refused := other.get(t, path)
		require.Equal(t, http.StatusForbidden, refused.status)
		require.Equal(t, "call_forbidden", refused.body["code"])
	}
	require.Equal(t, "call_not_found", me.get(t, "/calls/"+event.NewID()).body["code"])
	require.Equal(t, "[]", string(other.get(t, "/calls").raw))
	require.Contains(t, string(admin.get(t, "/calls").raw), id)

	require.Equal(t, "call_forbidden", other.do(t, http.MethodPost, "/calls/"+id+"/retry", nil, nil).body["code"])
	require.Equal(t, http.StatusForbidden, other.do(t, http.MethodDelete, "/calls/"+id, nil, nil).status)
	require.Equal(t, http.StatusNoContent, me.do(t, http.MethodDelete, "/calls/"+id, nil, nil).status)
	require.Equal(t, http.StatusNotFound, me.get(t, "/calls/"+id).status)
	require.Empty(t, w.files(t))
}

func TestTheRecordingIsServedInRanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.agent(t, identity.Agent)
	audio := recording(t, 2)
	path := "/calls/" + me.upload(t, audio, nil, nil).body["id"].(string) + "/audio"

	whole := me.get(t, path)
	require.Equal(t, http.StatusOK, whole.status)
	require.Equal(t, audio, whole.raw)
	require.Equal(t, "audio/ogg", whole.header.Get("Content-Type"))
	require.Equal(t, `inline; filename=call.ogg`, whole.header.Get("Content-Disposition"))

	part := me.do(t, http.MethodGet, path, nil, map[string]string{"Range": "bytes=10-19"})
	require.Equal(t, http.StatusPartialContent, part.status)
	require.Equal(t, audio[10:20], part.raw)
	tail := me.do(t, http.MethodGet, path, nil, map[string]string{"Range": "bytes=-5"})
	require.Equal(t, audio[len(audio)-5:], tail.raw)

	beyond := me.do(t, http.MethodGet, path, nil, map[string]string{"Range": "bytes=99999999-"})
	require.Equal(t, http.StatusRequestedRangeNotSatisfiable, beyond.status)
	require.Equal(t, "range_not_satisfiable", beyond.body["code"])
	require.NotEmpty(t, beyond.body["request_id"])
	require.Equal(t, http.StatusNotModified, me.do(t, http.MethodGet, path, nil, map[string]string{"If-None-Match": whole.header.Get("ETag")}).status)
}

func TestUploadsWithWrongFieldsAreRefusedAllAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.agent(t, identity.Agent)
	stranger := event.NewID()
	w.crm.clients.Store(stranger, event.NewID())
	ogg := recording(t, 2)

	refused := me.upload(t, []byte("just a text, named call.mp3"), map[string]string{
		"client_id": "7", "call_type": "chat", "call_tag": "x", "language": "english", "duration_seconds": "-1", "recorded_at": "yesterday",
	}, nil)
	require.Equal(t, http.StatusUnprocessableEntity, refused.status)
	var problem struct {
		Detail []struct {
			Type string
			Loc  []string
		}
	}
	require.NoError(t, json.Unmarshal(refused.raw, &problem))
	var wrong []string
	for _, d := range problem.Detail {
		wrong = append(wrong, d.Type+" "+strings.Join(d.Loc, "."))
	}
	require.Equal(t, []string{
		"audio_format body.audio", "enum body.call_tag", "enum body.call_type", "uuid_parsing body.client_id",
		"greater_than_equal body.duration_seconds", "value_error body.language", "datetime_parsing body.recorded_at",
	}, wrong)

	for name, c := range map[string]struct {
		audio  []byte
		fields map[string]string
		header map[string]string
		status int
		code   string
	}{
		"no recording":       {nil, map[string]string{"call_type": "demo"}, nil, 422, "validation_error"},
		"empty recording":    {[]byte{}, nil, nil, 422, "validation_error"},
		"unknown client":     {ogg, map[string]string{"client_id": event.NewID()}, nil, 404, "client_not_found"},
		"other's client":     {ogg, map[string]string{"client_id": stranger}, nil, 403, "client_forbidden"},
		"any lead":           {ogg, map[string]string{"lead_id": event.NewID()}, nil, 404, "lead_not_found"},
		"not multipart":      {ogg, nil, map[string]string{"Content-Type": "application/json"}, 415, "unsupported_content_type"},
		"no boundary":        {ogg, nil, map[string]string{"Content-Type": "multipart/form-data"}, 400, "malformed_form"},
		"another boundary":   {ogg, nil, map[string]string{"Content-Type": "multipart/form-data; boundary=x"}, 400, "malformed_form"},
		"long key":           {ogg, nil, map[string]string{"Idempotency-Key": strings.Repeat("k", 300)}, 422, "validation_error"},
		"over the limit":     {slices.Concat(ogg, make([]byte, 2<<20)), nil, nil, 413, "audio_too_large"},
		"far over the limit": {slices.Concat(ogg, make([]byte, 4<<20)), nil, nil, 413, "audio_too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			got := me.upload(t, c.audio, c.fields, c.header)
			require.Equal(t, c.status, got.status, string(got.raw))
			require.Equal(t, c.code, got.body["code"])
		})
	}
	require.Empty(t, w.files(t), "nothing of a refused upload stays")
	require.Equal(t, "[]", string(me.get(t, "/calls").raw))
}
