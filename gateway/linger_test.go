package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/run"
)

const recording = 20 << 20 // bytes: more than the buffers of the sockets between a client and the gateway hold

// chunked is a body of size bytes in chunked transfer coding.
func chunked(size int) string {
	const chunk = 64 << 10
	return strings.Repeat(fmt.Sprintf("%x\r\n%s\r\n", chunk, strings.Repeat("x", chunk)), size/chunk) + "0\r\n\r\n"
}

// refuseEarly responds before it reads the body, as a service that refuses an upload.
func refuseEarly(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"code":"early_%d"}`, status)
	}
}

// A client that sends its whole body before it reads, as phones do, must get every early response.
func TestAnEarlyResponseReachesAClientThatSendsItsWholeBodyFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.MaxAudioSizeMB = 40 })
	small := newFixture(t, func(c *Config) { c.MaxAudioSizeMB, c.Linger.MaxBytes = 1, 2*recording })
	agent, admin := "Authorization: Bearer "+f.token(t, identity.Agent), "Authorization: Bearer "+small.token(t, identity.Agent)
	length, byChunks := "Content-Length: "+strconv.Itoa(recording), "Transfer-Encoding: chunked"
	f.services["calls"].respond(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
		refuseEarly(map[string]int{"en": 413, "de": 422, "fr": 401}[r.Header.Get("Accept-Language")])(w, r)
	})
	for name, c := range map[string]struct {
		fixture *fixture
		headers []string
		chunked bool
		status  int
		code    string
	}{
		"no token":                        {f, []string{length}, false, 401, "not_authenticated"},
		"no token, chunked":               {f, []string{byChunks}, true, 401, "not_authenticated"},
		"no token, closes":                {f, []string{length, "Connection: close"}, false, 401, "not_authenticated"},
		"no token, Expect":                {f, []string{length, "Expect: 100-continue"}, false, 401, "not_authenticated"},
		"too large by Content-Length":     {small, []string{length, admin}, false, 413, "body_too_large"},
		"too large midway":                {small, []string{byChunks, admin}, true, 413, "body_too_large"},
		"413 of the service":              {f, []string{length, agent, "Accept-Language: en"}, false, 413, "early_413"},
		"413 of the service, chunked":     {f, []string{byChunks, agent, "Accept-Language: en"}, true, 413, "early_413"},
		"422 of the service":              {f, []string{length, agent, "Accept-Language: de"}, false, 422, "early_422"},
		"422 of the service, closes":      {f, []string{length, agent, "Accept-Language: de", "Connection: close"}, false, 422, "early_422"},
		"401 of the service, chunked":     {f, []string{byChunks, agent, "Accept-Language: fr"}, true, 401, "early_401"},
		"too large for a buffered route":  {f, []string{length, agent, "X-Path: /clients"}, false, 413, "body_too_large"},
		"too large midway for a buffered": {f, []string{byChunks, agent, "X-Path: /clients"}, true, 413, "body_too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := "/calls/upload"
			headers := strings.Join(c.headers, "\r\n")
			if _, other, ok := strings.Cut(headers, "X-Path: "); ok {
				path = other
			}
			conn, in := c.fixture.dial(t, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n%s\r\n\r\n", path, headers)
			require.NoError(t, conn.SetDeadline(time.Now().Add(timeout)))
			body := chunked(recording)
			if !c.chunked {
				body = strings.Repeat("x", recording)
			}
			_, err := io.WriteString(conn, body)
			require.NoError(t, err, "the whole body can be sent")
			res, err := http.ReadResponse(in, nil)
			require.NoError(t, err)
			raw, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Equal(t, c.status, res.StatusCode, string(raw))
			require.Contains(t, string(raw), `"`+c.code+`"`)
			require.Equal(t, "application/json", res.Header.Get("Content-Type"))
			require.True(t, res.Close)
			_, err = in.ReadByte()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}

// The early response of a service is sent at once, not when the client has sent more.
func TestAnEarlyResponseDoesNotWaitForTheBody(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.services["calls"].respond(refuseEarly(http.StatusUnprocessableEntity))
	const part = 512 << 10 // more than the service's own server discards before it responds
	for header, body := range map[string]string{
		"Content-Length: " + strconv.Itoa(recording): strings.Repeat("x", part),
		"Transfer-Encoding: chunked":                 strings.TrimSuffix(chunked(part), "0\r\n\r\n"),
	} {
		_, in := f.dial(t, "POST /calls/upload HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n%s\r\n\r\n%s", f.token(t, identity.Agent), header, body)
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		raw, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusUnprocessableEntity, res.StatusCode)
		require.JSONEq(t, `{"code":"early_422"}`, string(raw))
	}
	require.Eventually(t, func() bool {
		return strings.Contains(f.metrics(t, "convoflow_gateway_upstream_in_flight"), `{kind="upload",upstream="calls"} 0`+"\n")
	}, timeout, time.Millisecond, "the slots are released")
}

// A client that waits for 100 Continue gets the final status instead.
func TestARefusalIsSentInsteadOf100Continue(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for name, c := range map[string]struct {
		size   int
		header string
		status int
	}{
		"no token":  {recording, "X-Nothing: x", 401},
		"too large": {102 << 20, "Authorization: Bearer " + f.token(t, identity.Agent), 413},
	} {
		_, in := f.dial(t, "POST /calls/upload HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n%s\r\n\r\n", c.size, c.header)
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, c.status, res.StatusCode, name)
		require.Contains(t, string(body), `"detail"`)
		require.True(t, res.Close)
	}
}

// Lingering is bounded in bytes and in connections, so that a client cannot hold many by sending endlessly.
func TestLingeringIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	f := newFixture(t, func(c *Config) {
		c.Linger = run.Linger{Timeout: time.Hour, IdleTimeout: time.Hour, MaxBytes: limit, MaxConns: 1}
	})
	refused := func() net.Conn {
		conn, in := f.dial(t, "POST /calls/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
		require.NoError(t, conn.SetDeadline(time.Now().Add(timeout)))
		requireStatus(t, in, http.StatusUnauthorized)
		_, err := in.ReadByte()
		require.ErrorIs(t, err, io.EOF, "the gateway has closed its side")
		return conn
	}
	fails := func(conn net.Conn) bool {
		_, err := conn.Write([]byte("x"))
		return err != nil
	}
	first, beyond := refused(), refused()
	require.Eventually(t, func() bool { return fails(beyond) }, timeout, time.Millisecond, "there is no slot for another one")
	require.False(t, fails(first), "the first one is still open")

	sent := 0
	for piece := make([]byte, 64<<10); ; {
		n, err := first.Write(piece)
		if sent += n; err != nil {
			break
		}
	}
	require.Less(t, sent, 64*limit, "the limit and the buffers of the sockets")
}

func requireStatus(t *testing.T, in *bufio.Reader, status int) {
	t.Helper()
	res, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	require.Equal(t, status, res.StatusCode)
}
