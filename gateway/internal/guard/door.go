// Package guard keeps strangers out before anything of theirs is read: hosts, origins, forged headers, tokens, sizes and
// stalling. It refuses and passes on; it never reads a body and never decides what an agent may see.
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

// Door is what every request passes first. The zero Door trusts no proxy, allows any host and no other origin.
type Door struct {
	Proxies []netip.Prefix // whose X-Forwarded-For and X-Forwarded-Proto count
	Hosts   []string       // without port; empty allows any
	Origins []string       // of web pages on other hosts that may call
}

// Forwarded are the headers that the door sets for the services, about who really calls.
func Forwarded() []string {
	return []string{forwardedFor, forwardedProto, forwardedHost, rpc.RequestIDHeader}
}

const (
	forwardedFor   = "X-Forwarded-For"
	forwardedProto = "X-Forwarded-Proto"
	forwardedHost  = "X-Forwarded-Host"
)

// Handler lets decent requests through to next.
func (d Door) Handler(next http.Handler) http.Handler {
	next = d.cors(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := rpc.CleanRequestID(r.Header.Get(rpc.RequestIDHeader))
		client, proto := d.client(r)
		if r.Header[forwardedFor] != nil || r.Header["Forwarded"] != nil || r.Header["X-Real-Ip"] != nil {
			r.Header.Add("Via", "1.1 proxy") // trusted or not, there is one
		}
		dropForged(r.Header)
		values := []string{id, client, proto, r.Host} // one piece of memory for all
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
		if !d.allows(r.Host) {
			refuse(w, r, fault.New(fault.Malformed, "unknown_host", "This platform is not called by that host name"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// secure sets what browsers are to know of every answer.
func secure(h http.Header) {
	for name, value := range secured {
		h[name] = value
	}
}

// secured is shared by all answers: who wants another value of these headers sets it, and adds none.
var secured = http.Header{
	"X-Content-Type-Options":  {"nosniff"},
	"X-Frame-Options":         {"DENY"},
	"Referrer-Policy":         {"no-referrer"},
	"Content-Security-Policy": {"default-src 'none'; frame-ancestors 'none'"},
}

// refuse answers without reading the body. The connection ends with the answer: what the client still sends is not ours
// to take in.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
	record.Fail(w, r, err)
}

func (d Door) allows(host string) bool {
	if len(d.Hosts) == 0 {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return slices.ContainsFunc(d.Hosts, func(allowed string) bool {
		return strings.EqualFold(allowed, strings.Trim(host, "[]"))
	})
}

// dropForged removes what a client says about who it is, how it came here and what it wants of the connection. The
// traceparent stays: an app may have begun the trace.
func dropForged(h http.Header) {
	for name := range h {
		if isForged(name) {
			delete(h, name)
		}
	}
}

func isForged(name string) bool {
	switch name {
	case "Forwarded", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Http-Method-Override", "Baggage", "Connection", "Upgrade":
		return true
	}
	return strings.HasPrefix(name, "X-") && slices.ContainsFunc(forgedPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

var forgedPrefixes = []string{"X-User-", "X-Agent-", "X-Auth-", "X-Forwarded-", "X-Original-", "X-Rewrite-"}

// client is the address and protocol of who really calls. X-Forwarded-For is read from the right, as far as trusted
// proxies wrote it.
func (d Door) client(r *http.Request) (address, proto string) {
	proto = "http"
	if r.TLS != nil {
		proto = "https"
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "", proto
	}
	client := peer.Addr().Unmap()
	if !d.trusts(client) {
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
		if client = address.Unmap().WithZone(""); !d.trusts(client) {
			break
		}
	}
	return client.String(), proto
}

// parseHop reads an address, which some proxies write with the port.
func parseHop(hop string) (netip.Addr, error) {
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return withPort.Addr(), nil
	}
	return netip.ParseAddr(strings.Trim(hop, "[]"))
}

func (d Door) trusts(address netip.Addr) bool {
	return slices.ContainsFunc(d.Proxies, func(p netip.Prefix) bool { return p.Contains(address) })
}

// cors answers the questions of browsers. Without origins there is nothing to answer: the library would allow all.
func (d Door) cors(next http.Handler) http.Handler {
	if len(d.Origins) == 0 {
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: d.Origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete},
		AllowedHeaders: []string{
			"Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Range", rpc.RequestIDHeader, "traceparent", "tracestate",
		},
		ExposedHeaders:   []string{"Content-Disposition", "Content-Range", "ETag", "Link", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After", rpc.RequestIDHeader},
		AllowCredentials: true,
		MaxAge:           600, // seconds
	}).Handler(next)
}
