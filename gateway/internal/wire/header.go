package wire

// IsHopByHop reports whether a header field, in its canonical form, is meant for one connection only and must not be
// forwarded: RFC 9110 section 7.6.1, with the fields that RFC 2616 section 13.5.1 listed and Proxy-Connection.
func IsHopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}
