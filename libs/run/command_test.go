package run

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheHealthCommandFindsTheProcessOnThisMachine(t *testing.T) { // not parallel: it sets environment variables
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	for _, host := range []string{"", "0.0.0.0", "127.0.0.1"} {
		t.Setenv("ADMIN_ADDR", net.JoinHostPort(host, port))
		var stderr bytes.Buffer
		require.Equal(t, 0, realMain("svc", settings{}, nil, []string{"health"}, io.Discard, &stderr), "%q: %s", host, stderr.String())
	}
}
