package web

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClientIP(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ forwarded, peer, want string }{
		"direct":             {"", "192.0.2.1:1234", "192.0.2.1"},
		"direct IPv6":        {"", "[2001:db8::1%eth0]:1234", "2001:db8::1"},
		"through a gateway":  {"203.0.113.7", "192.0.2.1:1234", "203.0.113.7"},
		"mapped":             {"::ffff:203.0.113.7", "192.0.2.1:1234", "203.0.113.7"},
		"the nearest counts": {"198.51.100.1, 203.0.113.7", "192.0.2.1:1234", "203.0.113.7"},
		"no address":         {"<script>", "192.0.2.1:1234", "192.0.2.1"},
		"a unix socket":      {"", "@", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/auth/login", nil)
			r.RemoteAddr = c.peer
			if c.forwarded != "" {
				r.Header.Set("X-Forwarded-For", c.forwarded)
			}
			require.Equal(t, c.want, clientIP(r))
		})
	}
}
