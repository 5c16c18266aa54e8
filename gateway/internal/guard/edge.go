// Package guard refuses requests before their body is read: by host, origin, token, rate, size and stalled transfer. It
// replaces forged headers. It never reads a body and never decides which data an agent may see.
package guard

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/rs/cors"

	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/rpc"
)

// Edge checks the host and origin of every request and sets the headers about its client. The zero Edge trusts no proxy,
// allows any host and no other origin.
type Edge struct {
	Proxies []netip.Prefix // whose X-Forwarded-For and X-Forwarded-Proto are trusted
	Hosts   []string       // without port; empty allows any
	Origins []string       // of web apps on other hosts that may call
}

// Forwarded lists the headers about the client that Edge sets for the services.
func Forwarded() []string {
	return []string{forwardedFor, forwardedProto, forwardedHost, rpc.RequestIDHeader}
}

const (
	forwardedFor   = "X-Forwarded-For"
	forwardedProto = "X-Forwarded-Proto"
	forwardedHost  = "X-Forwarded-Host"
)

// Handler passes valid requests to next.
func (e Edge) Handler(next http.Handler) http.Handler {
	next = Cookies(e.cors(next))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := rpc.CleanRequestID(r.Header.Get(rpc.RequestIDHeader))
		client, proto := e.client(r)
		if dropForged(r.Header) {
			r.Header.Add("Via", "1.1 proxy") // records that there is a proxy, trusted or not (RFC 9110 section 7.6.3)
		}
		values := []string{id, client, proto, r.Host} // one allocation for all
		r.Header[rpc.RequestIDHeader] = values[0:1:1]
		r.Header[forwardedFor] = values[1:2:2]
		r.Header[forwardedProto] = values[2:3:3]
		r.Header[forwardedHost] = values[3:4:4]

		h := w.Header()
		h[rpc.RequestIDHeader] = values[0:1:1]
		secure(h)
		if proto == "https" {
			h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
		}
		if !e.allows(r.Host) {
			refuse(w, r, fault.New(fault.Malformed, "unknown_host", "This platform is not called by that host name"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// secure sets the security headers of every response.
func secure(h http.Header) {
	for name, value := range secured {
		h[name] = value
	}
}

// secured is shared by all responses: a handler may Set these headers and must not Add to them.
var secured = http.Header{
	"X-Content-Type-Options":  {"nosniff"},
	"X-Frame-Options":         {"DENY"},
	"Referrer-Policy":         {"no-referrer"},
	"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"},
}

// refuse responds without reading the body, and closes the connection. run.Linger discards what the client still sends.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
	record.Fail(w, r, err)
}

func (e Edge) allows(host string) bool {
	if len(e.Hosts) == 0 {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return slices.ContainsFunc(e.Hosts, func(allowed string) bool {
		return strings.EqualFold(allowed, strings.Trim(host, "[]"))
	})
}

// dropForged removes headers with which a client claims an identity, an address or a connection upgrade. The traceparent
// stays: an app may start the trace. isForwarded reports whether one of them is from a proxy, or claims to be.
func dropForged(h http.Header) (isForwarded bool) {
	for name := range h {
		switch {
		case isForwarding(name):
			isForwarded = true
			delete(h, name)
		case isForged(name):
			delete(h, name)
		}
	}
	return isForwarded
}

// isForwarding reports whether proxies set that header.
func isForwarding(name string) bool {
	switch name {
	case "Forwarded", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-")
}

func isForged(name string) bool {
	switch name {
	case "X-Http-Method-Override", "Baggage", "Connection", "Upgrade":
		return true
	}
	return strings.HasPrefix(name, "X-") && slices.ContainsFunc(forgedPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

var forgedPrefixes = []string{"X-User-", "X-Agent-", "X-Auth-", "X-Original-", "X-Rewrite-"}

// WithoutForwarded removes the headers that Edge has set, for a handler in this process. Via then shows whether the request came
// through a proxy.
func WithoutForwarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{forwardedFor, forwardedProto, forwardedHost} {
			delete(r.Header, name)
		}
		next.ServeHTTP(w, r)
	})
}

// client returns the client's address and protocol. X-Forwarded-For is read from the right, up to the first address that is
// not a trusted proxy.
func (e Edge) client(r *http.Request) (address, proto string) {
	proto = "http"
	if r.TLS != nil {
		proto = "https"
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "", proto
	}
	client := peer.Addr().Unmap()
	if !e.trusts(client) {
		return client.String(), proto
	}
	if sent := r.Header.Get(forwardedProto); sent == "http" || sent == "https" {
		proto = sent
	}
	hops := strings.Split(strings.Join(r.Header.Values(forwardedFor), ","), ",")
	for _, hop := range slices.Backward(hops) {
		address, err := parseHop(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		if client = address.Unmap().WithZone(""); !e.trusts(client) {
			break
		}
	}
	return client.String(), proto
}

// parseHop parses an address, to which some proxies add the port.
func parseHop(hop string) (netip.Addr, error) {
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return withPort.Addr(), nil
	}
	return netip.ParseAddr(strings.Trim(hop, "[]"))
}

func (e Edge) trusts(address netip.Addr) bool {
	return slices.ContainsFunc(e.Proxies, func(p netip.Prefix) bool { return p.Contains(address) })
}

// cors answers preflight requests. It is off without origins, because the library would allow all.
func (e Edge) cors(next http.Handler) http.Handler {
	if len(e.Origins) == 0 {
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: e.Origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: []string{
			"Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Range", rpc.RequestIDHeader, "traceparent", "tracestate",
		},
		ExposedHeaders:   []string{"Content-Disposition", "Content-Range", "ETag", "Erasure-Id", "Link", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After", rpc.RequestIDHeader},
		AllowCredentials: true,
		MaxAge:           600, // seconds
	}).Handler(next)
}
