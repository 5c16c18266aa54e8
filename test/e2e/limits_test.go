package e2e

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	mostAudio  = 100 << 20 // bytes: MAX_AUDIO_SIZE_MB is 100 unless set
	mostMemory = 32 << 20  // bytes that an upload of that size may add to the process
	// beforeStall is less than the 30 s after which the gateway ends a request whose client stalls.
	beforeStall = 20 * time.Second
)

// TestLimitsOfUploads uploads recordings that are too large, not audio, truncated, or without a token.
func TestLimitsOfUploads(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, f.settings()...)
	s.start()
	a := s.newAgent()

	t.Run("the largest recording takes no memory", func(t *testing.T) {
		s := s.in(t)
		a := s.as(a)
		a.completed(a.upload(nil).ID)
		s.stop() // memory that was used before and is free again would hide what the upload needs
		s.start()
		resetPeak(t, s.pid())
		before := peak(t, s.pid())
		a.post("/calls/upload", noise(mostAudio, nil)).must(http.StatusAccepted)
		grown := peak(t, s.pid()) - before
		t.Logf("100 MB raised the peak of the process by %.1f MB, from %.1f MB", mebibytes(grown), mebibytes(before))
		require.Less(t, grown, int64(mostMemory))
	})
	before := len(s.files())

	t.Run("one byte more is refused", func(t *testing.T) {
		s.in(t).as(a).post("/calls/upload", noise(mostAudio+1, nil)).refused(http.StatusRequestEntityTooLarge, "audio_too_large")
	})
	t.Run("so is a body that says that it is far larger, before it is sent", func(t *testing.T) {
		raw := dial(t, s)
		raw.send("POST /calls/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n", a.token, 10*mostAudio)
		require.Equal(t, http.StatusRequestEntityTooLarge, raw.status())
	})
	t.Run("text named mp3 is refused", func(t *testing.T) {
		text := strings.Repeat("This is no sound at all. ", 1000)
		got := s.in(t).as(a).post("/calls/upload", recording("call.mp3", strings.NewReader(text), int64(len(text)), nil))
		got.refused(http.StatusUnprocessableEntity, "validation_error")
		require.Equal(t, []string{"body.audio"}, got.fields())
	})
	t.Run("a request without a token is refused before the body is sent", func(t *testing.T) {
		raw := dial(t, s)
		raw.send("POST /calls/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", mostAudio)
		require.Equal(t, http.StatusUnauthorized, raw.status(), "and not 100")
		raw = dial(t, s)
		raw.send("POST /calls/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n", mostAudio)
		require.Equal(t, http.StatusUnauthorized, raw.status())
	})
	t.Run("an upload that is cut leaves nothing", func(t *testing.T) {
		a := s.in(t).as(a)
		rows := len(a.ids("/calls"))
		cut := noise(8<<20, nil)
		raw := dial(t, s)
		raw.send("POST /calls/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", a.token, cut.contentType, cut.length)
		_, err := io.CopyN(raw.Conn, cut, cut.length/2)
		require.NoError(t, err)
		poll(t, beforeStall, "the recording is being written", func() bool { return len(s.files()) > before })
		require.NoError(t, raw.Close())
		poll(t, beforeStall, "the recording has been removed", func() bool { return len(s.files()) == before })
		require.Len(t, a.ids("/calls"), rows)
	})
	require.Len(t, s.files(), before, "what was refused left nothing")
}

// as returns a user of another test, with a trace of its own.
func (s *stack) as(a *agent) *agent {
	here := s.anonymous()
	here.name, here.email, here.password, here.token = a.name, a.email, a.password, a.token
	return here
}

// noise returns the form of an upload whose recording is a WAV file of that many bytes: 192 kHz, 32 bit, stereo, so that it is
// large but short.
func noise(size int64, fields map[string]string) *form {
	header := wav(size-wavHeader, 192_000, 2, 4)
	return recording("noise.wav", io.MultiReader(bytes.NewReader(header), rand.NewChaCha8([32]byte{})), size, fields)
}

const wavHeader = 44 // bytes

// wav returns the beginning of a WAV file of that many bytes of samples, each of depth bytes.
func wav(size int64, rate, channels, depth uint32) []byte {
	header := make([]byte, 0, wavHeader)
	header = append(header, "RIFF"...)
	header = binary.LittleEndian.AppendUint32(header, uint32(size+wavHeader-8))
	header = append(header, "WAVEfmt "...)
	header = binary.LittleEndian.AppendUint32(header, 16)
	header = binary.LittleEndian.AppendUint16(header, 1) // PCM
	header = binary.LittleEndian.AppendUint16(header, uint16(channels))
	header = binary.LittleEndian.AppendUint32(header, rate)
	header = binary.LittleEndian.AppendUint32(header, rate*channels*depth)
	header = binary.LittleEndian.AppendUint16(header, uint16(channels*depth))
	header = binary.LittleEndian.AppendUint16(header, uint16(depth*8))
	header = append(header, "data"...)
	return binary.LittleEndian.AppendUint32(header, uint32(size))
}

// rawConn is a connection to a gateway, byte by byte.
type rawConn struct {
	net.Conn
	t testing.TB
}

func dial(t testing.TB, s *stack) rawConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.url, "http://"), beforeStall)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(beforeStall)))
	return rawConn{conn, t}
}

func (w rawConn) send(format string, args ...any) {
	w.t.Helper()
	_, err := fmt.Fprintf(w, format, args...)
	require.NoError(w.t, err)
}

// status returns the status of the first response.
func (w rawConn) status() int {
	w.t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(w), nil)
	require.NoError(w.t, err)
	_ = response.Body.Close()
	return response.StatusCode
}

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }
