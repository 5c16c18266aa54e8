// Package wire is an HTTP/1.1 client (RFC 9112) over a pool of TCP connections to one service, for requests whose body is
// already in memory. One goroutine, the one that serves the client, writes the request and reads the response: net/http's
// Transport has two more goroutines per connection, which cost a gateway as much as everything else it does for a small
// request (docs/adr/0012). It does not support TLS or HTTP/2 and does not stream request bodies: use http.Transport for
// those.
//
// What it sends: the request line in origin-form, the pool's own Host, the header without hop-by-hop fields (RFC 9110
// section 7.6.1), Content-Length, and the body. It sends no Transfer-Encoding, no trailers and no Expect. It does not validate
// the method, the URL or the header: they must come from net/http's server, which rejects control characters.
//
// What a response means is decided by http.ReadResponse alone: its framing, and whether it has a body at all. Interim (1xx)
// responses are skipped; 101 is an error, because no upgrade was requested.
//
// When a connection is reused (RFC 9112 section 9.3): after the response body has been read to its end, unless the service
// closes, the request was not sent completely, or bytes follow the response. Before each reuse, one read(2) checks that the
// service has neither closed the connection nor sent anything since, so that an unsolicited response never answers the next
// request. The most recently used connection is reused first.
//
// What is sent twice (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1): only a GET or HEAD without a body, once, on a new
// connection, if a reused connection failed before the first byte of the response, before the deadline, and while the
// client was connected. Nothing else is ever sent twice.
//
// Timeouts: Options.Dialer has that of dialing. The deadline of a request covers the rest, up to the end of the response
// body. Idle connections are closed after Options.IdleTimeout. A response header is limited to 1 MiB.
//
// When a client disconnects, the context of its request is cancelled. The exchange then ends within clientCheckInterval and
// closes its connection, so that the service notices as well.
package wire
