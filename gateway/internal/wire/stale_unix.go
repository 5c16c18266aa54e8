//go:build unix

package wire

import (
	"net"
	"syscall"
)

// staleCheck reads once from an idle connection, without blocking.
type staleCheck struct {
	socket syscall.RawConn
	read   func(fd uintptr) // allocated once, called before each reuse
	quiet  bool             // whether there was nothing to read
}

func (s *staleCheck) prepare(c net.Conn) {
	if socket, ok := c.(syscall.Conn); ok {
		s.socket, _ = socket.SyscallConn() // fails on a closed connection, as the first request will
	}
	s.read = func(fd uintptr) {
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:])
		s.quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	}
}

// isStale reports whether the service has closed the idle connection or sent bytes that answer no request.
func (c *conn) isStale() bool {
	s := &c.stale
	if s.socket == nil {
		return false
	}
	s.quiet = false
	return s.socket.Control(s.read) != nil || !s.quiet
}
