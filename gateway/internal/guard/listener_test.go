package guard

import (
	"bufio"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The time of an answer that ended long ago is not the time of a refusal.
func TestARefusalAfterALongTime(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	c := &refusing{Conn: ours}
	require.NoError(t, c.SetWriteDeadline(time.Unix(1, 0)))
	go func() {
		_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request"))
	}()
	res, err := http.ReadResponse(bufio.NewReader(theirs), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	require.Equal(t, "application/json", res.Header.Get("Content-Type"))
	require.NoError(t, ours.Close())
}
