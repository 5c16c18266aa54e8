package calls_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/services/calls"
)

// amr is a second of AMR narrow band, which ffmpeg reads and does not write: 50 frames of 4.75 kbit/s, RFC 4867 section 5.
func amr() []byte {
	frame := append([]byte{0x04}, make([]byte, 12)...)
	return append([]byte("#!AMR\n"), bytes.Repeat(frame, 100)...)
}

func TestEveryAcceptedFormatIsTranscribed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.agent(t, identity.Agent)
	for name, c := range map[string]struct {
		audio       []byte
		contentType string
	}{
		"mp3":         {recording(t, 2, "-c:a", "libmp3lame", "-f", "mp3"), "audio/mpeg"},
		"mp3 bare":    {recording(t, 2, "-c:a", "libmp3lame", "-id3v2_version", "0", "-write_xing", "0", "-f", "mp3"), "audio/mpeg"},
		"mpga":        {recording(t, 2, "-c:a", "mp2", "-f", "mp2"), "audio/mpeg"},
		"mpeg":        {recording(t, 2, "-c:a", "mp2", "-f", "mpeg"), "video/mpeg"},
		"mp4":         {recording(t, 2, "-c:a", "aac", "-f", "mp4"), "audio/mp4"},
		"m4a":         {recording(t, 2, "-c:a", "aac", "-f", "ipod"), "audio/mp4"},
		"wav":         {recording(t, 2, "-c:a", "pcm_s16le", "-f", "wav"), "audio/wav"},
		"webm":        {recording(t, 2, "-c:a", "libopus", "-f", "webm"), "audio/webm"},
		"webm stream": {recording(t, 2, "-c:a", "libopus", "-live", "1", "-f", "webm"), "audio/webm"},
		"ogg opus":    {recording(t, 2), "audio/ogg"},
		"ogg vorbis":  {recording(t, 2, "-c:a", "libvorbis", "-f", "ogg"), "audio/ogg"},
		"flac":        {recording(t, 2, "-c:a", "flac", "-f", "flac"), "audio/flac"},
		"aac":         {recording(t, 2, "-c:a", "aac", "-f", "adts"), "audio/aac"},
		"3gp":         {recording(t, 2, "-c:a", "aac", "-f", "3gp"), "audio/3gpp"},
		"amr":         {amr(), "audio/amr"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up := me.upload(t, c.audio, nil, nil)
			require.Equal(t, http.StatusAccepted, up.status, string(up.raw))
			require.Equal(t, c.contentType, up.body["content_type"])
			got := me.ended(t, up.body["id"].(string))
			require.Equal(t, "completed", got["status"], got["error"])
			require.Equal(t, "ok", got["outcome"])
			require.InDelta(t, 2, got["duration_seconds"], 0.2)
		})
	}
}

func TestTheSizeLimitCountsTheRecordingOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *calls.Config) { c.MaxAudioSizeMB = 1 })
	me := w.agent(t, identity.Agent)
	wav := recording(t, 2, "-c:a", "pcm_s16le", "-f", "wav")
	exact := append(bytes.Clone(wav), make([]byte, 1<<20-len(wav))...)
	require.Equal(t, http.StatusAccepted, me.upload(t, exact[:len(exact)-1], nil, nil).status)
	require.Equal(t, http.StatusAccepted, me.upload(t, exact, map[string]string{"call_type": "demo"}, nil).status)
	over := me.upload(t, append(exact, 0), nil, nil)
	require.Equal(t, http.StatusRequestEntityTooLarge, over.status)
	require.Equal(t, "audio_too_large", over.body["code"])
	require.Len(t, w.files(t), 2)
}

func TestAnUploadThatIsCutLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.agent(t, identity.Agent)
	body, contentType := form(t, "a.wav", recording(t, 5, "-c:a", "pcm_s16le", "-f", "wav"), map[string]string{"call_type": "demo"})
	whole := body.Bytes()
	for _, at := range []int{0, 50, 300, 100_000, len(whole) - 120, len(whole) - 100, len(whole) - 80, len(whole) - 68, len(whole) - 40, len(whole) - 4, len(whole) - 3} {
		// The body ends too early, though the sender says that it is complete.
		got := me.do(t, http.MethodPost, "/calls/upload", bytes.NewReader(whole[:at]), map[string]string{"Content-Type": contentType})
		require.Equal(t, http.StatusBadRequest, got.status, "cut at %d of %d: %s", at, len(whole), got.raw)
		require.Equal(t, "malformed_form", got.body["code"])

		// The connection ends.
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "POST /calls/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", me.token, contentType, len(whole), whole[:at])
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, res.StatusCode)
		require.NoError(t, res.Body.Close())
		require.NoError(t, conn.Close())
	}
	require.Empty(t, w.files(t))
	require.Equal(t, "[]", string(me.get(t, "/calls").raw))
}

func TestAnIdempotencyKeyMakesOneCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.agent(t, identity.Agent)
	audio := recording(t, 2)
	key := map[string]string{"Idempotency-Key": "one"}
	first := me.upload(t, audio, map[string]string{"call_type": "demo"}, key)
	require.Equal(t, http.StatusAccepted, first.status, string(first.raw))
	me.ended(t, first.body["id"].(string))

	again := me.upload(t, audio, map[string]string{"call_type": "demo"}, key)
	require.Equal(t, http.StatusAccepted, again.status)
	require.Equal(t, string(first.raw), string(again.raw))
	other := me.upload(t, audio, map[string]string{"call_type": "followup"}, key)
	require.Equal(t, http.StatusConflict, other.status)
	require.Equal(t, "idempotency_key_reused", other.body["code"])
	require.Len(t, w.files(t), 1, "the recordings of the other two are gone")
	require.Equal(t, int64(1), w.ai.transcriptions.Load())
}

func TestPathsInFilenamesAreDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	me := w.agent(t, identity.Agent)
	audio := recording(t, 2)
	for sent, want := range map[string]any{
		"../../etc/passwd": "passwd", `C:\calls\acme.mp3`: "acme.mp3", "..": nil,
		strings.Repeat("ä", 300): strings.Repeat("ä", 255), "Gespräch 1.ogg": "Gespräch 1.ogg",
	} {
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, err := form.CreateFormFile("audio", sent)
		require.NoError(t, err)
		_, err = part.Write(audio)
		require.NoError(t, err)
		require.NoError(t, form.Close())
		got := me.do(t, http.MethodPost, "/calls/upload", &body, map[string]string{"Content-Type": form.FormDataContentType()})
		require.Equal(t, http.StatusAccepted, got.status, string(got.raw))
		require.Equal(t, want, got.body["audio_filename"], sent)
		require.Equal(t, http.StatusOK, me.get(t, got.body["audio_url"].(string)).status)
	}
}

func TestFilesWithoutACallAreSweptWhenTheyAreOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *calls.Config) { c.OrphanAge = time.Hour })
	me := w.agent(t, identity.Agent)
	kept := me.upload(t, recording(t, 2), nil, nil).body["id"].(string)
	me.ended(t, kept)
	w.stop()
	month := filepath.Join(w.storage, time.Now().UTC().Format("2006/01"))
	old := time.Now().Add(-2 * time.Hour)
	for name, age := range map[string]time.Time{
		event.NewID(): old, event.NewID() + ".1a2b.tmp": old, event.NewID(): time.Now(), "notes.txt": old,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(month, name), []byte("x"), 0o600))
		require.NoError(t, os.Chtimes(filepath.Join(month, name), age, age))
	}
	require.NoError(t, os.Chtimes(filepath.Join(month, kept), old, old))
	w.start(t)
	require.Eventually(t, func() bool { return len(w.files(t)) == 3 }, patience, 10*time.Millisecond)
	left := strings.Join(w.files(t), " ")
	require.Contains(t, left, kept)
	require.Contains(t, left, "notes.txt", "what is not ours is not touched")
}

// zeros is an endless body that counts what was taken of it.
type zeros struct{ taken atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	clear(p)
	z.taken.Add(int64(len(p)))
	return len(p), nil
}

func TestAnEndlessUploadIsCutAtTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *calls.Config) { c.MaxAudioSizeMB = 1 })
	me := w.agent(t, identity.Agent)
	endless := &zeros{}
	head := "--b\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a.wav\"\r\n\r\n" + string(recording(t, 1, "-c:a", "pcm_s16le", "-f", "wav"))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/calls/upload", io.MultiReader(strings.NewReader(head), endless))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+me.token)
	req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
		require.NoError(t, res.Body.Close())
	} else {
		require.NotErrorIs(t, err, context.DeadlineExceeded)
	}
	require.Less(t, endless.taken.Load(), int64(16<<20), "it stops soon after the limit")
	require.Empty(t, w.files(t))
}

func TestLargeUploadsTakeLittleMemory(t *testing.T) {
	w := newWorld(t, func(c *calls.Config) { c.MaxAudioSizeMB = 100 })
	gate := refuse(http.StatusUnauthorized, "invalid_api_key")
	w.ai.onTranscribe.Store(gate)
	me := w.agent(t, identity.Agent)
	head := "--b\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a.wav\"\r\n\r\n" + string(recording(t, 1, "-c:a", "pcm_s16le", "-f", "wav"))
	size := int64(100<<20) - int64(len(head)) - 200
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/calls/upload",
		io.MultiReader(strings.NewReader(head), io.LimitReader(&zeros{}, size), strings.NewReader("\r\n--b--\r\n")))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+me.token)
	req.Header.Set("Content-Type", "multipart/form-data; boundary=b")

	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var highest atomic.Uint64
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ctx.Err() == nil {
			runtime.ReadMemStats(&now)
			highest.Store(max(highest.Load(), now.HeapAlloc))
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	begin := time.Now()
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	took := time.Since(begin)
	cancel()
	<-watched
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusAccepted, res.StatusCode)
	rise := int64(highest.Load()) - int64(before.HeapAlloc)
	t.Logf("100 MB took %s and %d kB more heap", took, rise>>10)
	require.Less(t, rise, int64(32<<20))
}
