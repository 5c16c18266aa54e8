package web

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

// WithDevice puts the device of a request into its context.
func WithDevice(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		device := agent.Device{UserAgent: r.UserAgent(), IP: clientIP(r)}
		next.ServeHTTP(w, r.WithContext(agent.WithDevice(r.Context(), device)))
	})
}

// clientIP is the last address of X-Forwarded-For, which the gateway overwrites, else the address of the peer. It is empty when
// there is none.
func clientIP(r *http.Request) string {
	forwarded := r.Header.Get("X-Forwarded-For")
	last := strings.TrimSpace(forwarded[strings.LastIndex(forwarded, ",")+1:])
	if ip, err := netip.ParseAddr(last); err == nil {
		return ip.Unmap().WithZone("").String()
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return peer.Addr().Unmap().WithZone("").String()
}
