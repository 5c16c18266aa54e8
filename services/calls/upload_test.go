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
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/services/calls"
)

func TestTheSizeLimitCountsTheRecordingOnly(t *testing.T) {
	t.Parallel()
	a := start(t, func(c *calls.Config) { c.MaxAudioSizeMB = 1 })
	sound := wav(t, 2)
	exact := append(bytes.Clone(sound), make([]byte, 1<<20-len(sound))...)
	a.upload(a.Agent, exact[:len(exact)-1], nil).Is(http.StatusAccepted)
	a.upload(a.Agent, exact, map[string]string{"call_type": "demo"}).Is(http.StatusAccepted)
	a.upload(a.Agent, append(exact, 0), nil).Fails(http.StatusRequestEntityTooLarge, "audio_too_large")
	require.Len(t, a.files(), 2)
}

func TestAnUploadThatIsCutLeavesNothing(t *testing.T) {
	t.Parallel()
	a := start(t)
	body, contentType := form(t, "a.wav", wav(t, 5), map[string]string{"call_type": "demo"})
	whole := body.Bytes()
	for _, at := range []int{0, 50, 300, 100_000, len(whole) - 120, len(whole) - 100, len(whole) - 80, len(whole) - 68, len(whole) - 40, len(whole) - 4, len(whole) - 3, len(whole)} {
		t.Logf("cut at %d of %d", at, len(whole))
		if at < len(whole) { // the body ends too early, though the sender says that it is complete
			a.Send(a.Agent, http.MethodPost, "/calls/upload", bytes.NewReader(whole[:at]), "Content-Type", contentType).Fails(http.StatusBadRequest, "malformed_form")
		}

		// The connection ends before the length that the sender names, in the last case after a whole form.
		conn, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "POST /calls/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", a.Token(a.Agent), contentType, len(whole)+1, whole[:at])
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, res.StatusCode)
		require.NoError(t, res.Body.Close())
		require.NoError(t, conn.Close())
	}
	require.Empty(t, a.files())
	require.Equal(t, "[]", a.Get(a.Agent, "/calls").Body)
}

func TestAnIdempotencyKeyMakesOneCall(t *testing.T) {
	t.Parallel()
	a := start(t)
	audio := recording(t, 2)
	demo := map[string]string{"call_type": "demo"}
	first := a.upload(a.Agent, audio, demo, "Idempotency-Key", "one").Is(http.StatusAccepted)
	a.ended(first.Text("id"))

	again := a.upload(a.Agent, audio, demo, "Idempotency-Key", "one").Is(http.StatusAccepted)
	require.Equal(t, first.Body, again.Body)
	a.upload(a.Agent, audio, map[string]string{"call_type": "followup"}, "Idempotency-Key", "one").Fails(http.StatusConflict, "idempotency_key_reused")
	a.upload(a.Agent, recording(t, 3), demo, "Idempotency-Key", "one").Fails(http.StatusConflict, "idempotency_key_reused")
	require.Len(t, a.files(), 1, "the recordings of the other three were removed")
	require.Equal(t, int64(1), a.ai.transcriptions.Load())
}

func TestPartsInAnyOrder(t *testing.T) {
	t.Parallel()
	a := start(t)
	audio := recording(t, 2)
	part := func(w *multipart.Writer, name, value string) {
		if name != "audio" {
			require.NoError(t, w.WriteField(name, value))
			return
		}
		file, err := w.CreateFormFile(name, "call.ogg")
		require.NoError(t, err)
		_, err = file.Write(audio)
		require.NoError(t, err)
	}
	send := func(names ...string) servicetest.Answer {
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		for _, name := range names {
			part(w, name, "demo")
		}
		require.NoError(t, w.Close())
		return a.Send(a.Agent, http.MethodPost, "/calls/upload", &body, "Content-Type", w.FormDataContentType())
	}
	require.Equal(t, "demo", send("call_type", "audio").Is(http.StatusAccepted).Text("call_type"))
	require.Equal(t, "demo", send("audio", "unknown", "call_type").Is(http.StatusAccepted).Text("call_type"))
	require.Equal(t, []string{"audio"}, send("audio", "audio").Wrong())
	require.Equal(t, []string{"audio"}, send("call_type", "audio", "audio").Wrong())
	send(slices.Repeat([]string{"x"}, 51)...).Fails(http.StatusBadRequest, "too_many_parts")
	require.Len(t, a.files(), 1, "the second recording was the same")
}

// A phone that has sent everything may close its connection at once: it will fetch the call later.
func TestAClientThatLeavesAfterTheLastByteGetsItsCall(t *testing.T) {
	t.Parallel()
	a := start(t)
	client := event.NewID()
	a.crm.clients.Store(client, a.Agent.AgentID)
	body, contentType := form(t, "a.ogg", recording(t, 0.3), map[string]string{"client_id": client})
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "POST /calls/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", a.Token(a.Agent), contentType, body.Len(), body)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	a.Await("the call is listed", func() bool { return len(a.Get(a.Agent, "/calls?client_id="+client).IDs()) == 1 })
}

func TestTimesOfUploads(t *testing.T) {
	t.Parallel()
	a := start(t)
	audio := recording(t, 0.3)
	send := func(at string) servicetest.Answer {
		return a.upload(a.Agent, audio, map[string]string{"recorded_at": at})
	}
	for _, at := range []string{"2026-11-24T09:30:00Z", "2026-11-24T10:30:00+01:00", "2026-11-24T09:30:00", "2026-11-24 09:30:00", "2026-11-24T09:30:00.0000001"} {
		require.Equal(t, "2026-11-24T09:30:00Z", send(at).Is(http.StatusAccepted).Text("recorded_at"), at)
	}
	require.Equal(t, "9999-12-31T23:59:59Z", send("9999-12-31T23:59:59Z").Is(http.StatusAccepted).Text("recorded_at"))
	for _, at := range []string{
		"now", "24.11.2026", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z",
		// A time that is outside the years 1 to 9999 only in UTC once created a call that could not be published, and a 500.
		"9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00",
	} {
		answer := send(at)
		require.Equal(t, []string{"recorded_at"}, answer.Wrong(), at)
		require.Contains(t, answer.Body, "datetime_parsing")
	}
}

func TestPathsInFilenamesAreDropped(t *testing.T) {
	t.Parallel()
	a := start(t)
	audio := recording(t, 2)
	for sent, want := range map[string]any{
		"../../etc/passwd": "passwd.ogg", `C:\calls\acme.mp3`: "acme.ogg", "..": nil,
		strings.Repeat("ä", 300): strings.Repeat("ä", 251) + ".ogg", "Gespräch 1.ogg": "Gespräch 1.ogg", "a\u202egpj.exe": "agpj.ogg",
	} {
		body, contentType := form(t, sent, audio, map[string]string{"force": "true"})
		got := a.Send(a.Agent, http.MethodPost, "/calls/upload", body, "Content-Type", contentType).Is(http.StatusAccepted)
		require.Equal(t, want, got.Object()["audio_filename"], sent)
		a.Get(a.Agent, got.Text("audio_url")).Is(http.StatusOK)
	}
}

func TestFilesWithoutACallAreSweptWhenTheyAreOld(t *testing.T) {
	t.Parallel()
	a := start(t, func(c *calls.Config) { c.OrphanAge = time.Hour })
	id := a.call(recording(t, 2))
	a.ended(id)
	a.Stop()
	month := filepath.Join(a.storage, time.Now().UTC().Format("2006/01"))
	old := time.Now().Add(-2 * time.Hour)
	for name, age := range map[string]time.Time{
		event.NewID(): old, event.NewID() + ".1a2b.tmp": old, event.NewID(): time.Now(), "notes.txt": old,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(month, name), []byte("x"), 0o600))
		require.NoError(t, os.Chtimes(filepath.Join(month, name), age, age))
	}
	require.NoError(t, os.Chtimes(filepath.Join(month, id), old, old))
	a.start()
	a.Await("orphans are removed", func() bool { return len(a.files()) == 3 })
	left := strings.Join(a.files(), " ")
	require.Contains(t, left, id)
	require.Contains(t, left, "notes.txt", "what is not ours is not touched")
}

// The database is cut at each point of an upload. Only if the answer to the COMMIT is lost, a file may stay: its call may exist.
func TestAnUploadWithoutADatabaseLeavesNoFile(t *testing.T) {
	t.Parallel()
	a, proxy := behindProxy(t)
	for name, c := range map[string]struct {
		text         string // at which the connection is cut
		delivered    bool
		files, calls int
	}{
		"at the insert":                   {"insert into calls", false, 0, 0},
		"at the event":                    {"insert into outbox", false, 0, 0},
		"before the COMMIT reached it":    {"commit", false, 1, 0},
		"before the answer to the COMMIT": {"commit", true, 1, 1},
		"before the answer to the insert": {"insert into calls", true, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a := a.lend(t)
			cut := proxy.CutAt("insert into calls", c.text, c.delivered)
			answer := a.upload(a.Agent, recording(t, 0.3), nil).Fails(http.StatusServiceUnavailable, "database_unavailable")
			require.NotEmpty(t, answer.Header.Get("Retry-After"))
			<-cut
			require.Len(t, a.files(), c.files)
			proxy.Restore()
			a.Await("the database is back", func() bool { return a.Get(a.Agent, "/calls").Status == http.StatusOK })
			require.Len(t, a.Get(a.Agent, "/calls").IDs(), c.calls)
		})
	}
}

func behindProxy(t *testing.T) (*app, *pgtest.Proxy) {
	t.Helper()
	var proxy *pgtest.Proxy
	a := start(t, func(c *calls.Config) {
		proxy = pgtest.NewProxy(t, c.Database.URL.Reveal())
		c.Database.URL = conf.Secret(proxy.URL())
	})
	return a, proxy
}

func TestTheDatabaseIsCheckedBeforeARecordingIsRead(t *testing.T) {
	t.Parallel()
	a, proxy := behindProxy(t)
	body, contentType := form(t, "a.ogg", recording(t, 0.3), map[string]string{"call_type": "demo", "call_tag": "connected"})
	begin := func() net.Conn {
		conn, err := net.Dial("tcp", strings.TrimPrefix(a.URL, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = fmt.Fprintf(conn, "POST /calls/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", a.Token(a.Agent), contentType, body.Len())
		require.NoError(t, err)
		return conn
	}
	unavailable := func(conn net.Conn) {
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		require.NotEmpty(t, res.Header.Get("Retry-After"))
		require.NoError(t, res.Body.Close())
	}
	whileUp := begin()
	end := body.Len() - 40 // in the last field, so that the recording is complete
	_, err := whileUp.Write(body.Bytes()[:end])
	require.NoError(t, err)
	a.Await("the recording is stored", func() bool { return len(a.files()) == 1 && !strings.HasSuffix(a.files()[0], ".tmp") })
	proxy.Cut()
	unavailable(begin()) // which sent nothing of its body
	_, err = whileUp.Write(body.Bytes()[end:])
	require.NoError(t, err)
	unavailable(whileUp)
	require.Empty(t, a.files())
	proxy.Restore()
	a.Await("the database is back", func() bool { return a.Get(a.Agent, "/calls").Status == http.StatusOK })
	a.upload(a.Agent, recording(t, 0.3), nil).Is(http.StatusAccepted)
}

// zeros is an endless body that counts the bytes read from it.
type zeros struct{ read atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	clear(p)
	z.read.Add(int64(len(p)))
	return len(p), nil
}

func TestAnEndlessUploadIsCutAtTheLimit(t *testing.T) {
	t.Parallel()
	a := start(t, func(c *calls.Config) { c.MaxAudioSizeMB = 1 })
	endless := &zeros{}
	head := "--b\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a.wav\"\r\n\r\n" + string(wav(t, 1))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL+"/calls/upload", io.MultiReader(strings.NewReader(head), endless))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+a.Token(a.Agent))
	req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
		require.NoError(t, res.Body.Close())
	} else {
		require.NotErrorIs(t, err, context.DeadlineExceeded)
	}
	require.Less(t, endless.read.Load(), int64(16<<20), "it stops soon after the limit")
	require.Empty(t, a.files())
}

// A buffer of the upload would be alive while the upload is sent. What is garbage by then depends on how busy the machine is.
func TestLargeUploadsTakeLittleMemory(t *testing.T) {
	a := start(t, func(c *calls.Config) { c.MaxAudioSizeMB = 100 })
	gate := refuse(http.StatusUnauthorized, "invalid_api_key")
	a.ai.onTranscribe.Store(gate)
	head := "--b\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a.wav\"\r\n\r\n" + string(wav(t, 1))
	size := int64(100<<20) - int64(len(head)) - 200
	alive := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, highest := alive(), int64(0)
	body := []io.Reader{strings.NewReader(head)}
	const checks = 10
	for range checks {
		body = append(body, io.LimitReader(&zeros{}, size/checks), &pause{func() { highest = max(highest, alive()) }})
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL+"/calls/upload", io.MultiReader(append(body, strings.NewReader("\r\n--b--\r\n"))...))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+a.Token(a.Agent))
	req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusAccepted, res.StatusCode)
	t.Logf("100 MB took %d kB more heap", (highest-before)>>10)
	require.Less(t, highest-before, int64(8<<20))
}

// pause is an empty part of a body that does something when it is reached.
type pause struct{ do func() }

func (p *pause) Read([]byte) (int, error) {
	p.do()
	return 0, io.EOF
}
