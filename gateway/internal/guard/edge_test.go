package guard

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheAddressOfTheClient(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, c := range map[string]struct {
		peer      string
		forwarded []string
		proto     string
		tls       bool
		want      string
		wantProto string
	}{
		"a direct client":                   {peer: "203.0.113.9:1", want: "203.0.113.9", wantProto: "http"},
		"a forged header":                   {peer: "203.0.113.9:1", forwarded: []string{"1.1.1.1"}, proto: "https", want: "203.0.113.9", wantProto: "http"},
		"a direct client, TLS":              {peer: "203.0.113.9:1", tls: true, want: "203.0.113.9", wantProto: "https"},
		"through a proxy":                   {peer: "10.0.0.1:1", forwarded: []string{"198.51.100.7"}, proto: "https", want: "198.51.100.7", wantProto: "https"},
		"through two":                       {peer: "10.0.0.1:1", forwarded: []string{"198.51.100.7, 10.0.0.2"}, want: "198.51.100.7", wantProto: "http"},
		"through a proxy, forged":           {peer: "10.0.0.1:1", forwarded: []string{"1.1.1.1", "198.51.100.7"}, want: "198.51.100.7", wantProto: "http"},
		"the proxy itself":                  {peer: "10.0.0.1:1", want: "10.0.0.1", wantProto: "http"},
		"a proxy with invalid headers":      {peer: "10.0.0.1:1", forwarded: []string{"198.51.100.7, x"}, proto: "gopher", want: "10.0.0.1", wantProto: "http"},
		"IPv6 through a proxy":              {peer: "[fd00::1]:1", forwarded: []string{"2001:db8::5"}, want: "2001:db8::5", wantProto: "http"},
		"a proxy that adds ports":           {peer: "10.0.0.1:1", forwarded: []string{"198.51.100.7:51234"}, want: "198.51.100.7", wantProto: "http"},
		"IPv6 with a port":                  {peer: "10.0.0.1:1", forwarded: []string{"[2001:db8::5]:443"}, want: "2001:db8::5", wantProto: "http"},
		"IPv4 in IPv6":                      {peer: "[::ffff:10.0.0.1]:1", forwarded: []string{"::ffff:198.51.100.7"}, want: "198.51.100.7", wantProto: "http"},
		"no address at all (a unix socket)": {peer: "@", forwarded: []string{"1.1.1.1"}, want: "", wantProto: "http"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr, r.Header["X-Forwarded-For"] = c.peer, c.forwarded
			if c.proto != "" {
				r.Header.Set("X-Forwarded-Proto", c.proto)
			}
			if c.tls {
				r.TLS = &tls.ConnectionState{}
			}
			w := httptest.NewRecorder()
			Edge{Proxies: trusted}.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				require.Equal(t, []string{c.want}, r.Header["X-Forwarded-For"])
				require.Equal(t, []string{c.wantProto}, r.Header["X-Forwarded-Proto"])
			})).ServeHTTP(w, r)
			require.Equal(t, c.wantProto == "https", w.Header().Get("Strict-Transport-Security") != "")
		})
	}
}

func TestAllowedHosts(t *testing.T) {
	t.Parallel()
	edge := Edge{Hosts: []string{"api.example.com", "::1"}}.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for host, status := range map[string]int{
		"api.example.com": 200, "API.example.com:8000": 200, "[::1]:8000": 200, "[::1]": 200,
		"evil.example.com": 400, "api.example.com.evil.com": 400, "": 400,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		edge.ServeHTTP(w, r)
		require.Equal(t, status, w.Code, host)
	}
}
