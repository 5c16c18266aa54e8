package web

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

func TestASenderThatStallsIsCut(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	// The clock is behind, so that the deadline comes soon.
	behind := clock.At(clock.System{}.Now().Add(200*time.Millisecond - stallTime))
	server := httptest.NewServer(cutStalled(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}), behind))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
	require.NoError(t, err)
	select {
	case err := <-ended:
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	case <-time.After(10 * time.Second):
		t.Fatal("the server waits for ever")
	}
}

// FuzzForm feeds the reader of forms: it ends, in order or with a fault, whatever comes.
func FuzzForm(f *testing.F) {
	whole := "--b\r\nContent-Disposition: form-data; name=\"audio\"; filename=\"a\"\r\n\r\nxyz\r\n--b\r\nContent-Disposition: form-data; name=\"call_type\"\r\n\r\ndemo\r\n--b--"
	for _, seed := range []string{whole, whole + "\r\n", whole[:40], whole[:len(whole)-2], "", "--b--", "--b\r\n\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest(http.MethodPost, "/calls/upload", strings.NewReader(body))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		req, err := decodeUpload(1 << 20)(r)
		require.NoError(t, err)
		complete := readAll(t, req.Form)
		if body == whole || body == whole+"\r\n" {
			require.True(t, complete)
		}
		if complete {
			require.Contains(t, body, "--b--", "a form that is complete has its last boundary")
		}
	})
}

func readAll(t *testing.T, form call.Form) (complete bool) {
	t.Helper()
	for {
		part, err := form.Next()
		if errors.Is(err, io.EOF) {
			return true
		}
		if err == nil {
			_, err = io.Copy(io.Discard, part.Content)
		}
		if err != nil {
			require.True(t, fault.Is(err, fault.Malformed) || fault.Is(err, fault.TooLarge), err)
			return false
		}
	}
}
