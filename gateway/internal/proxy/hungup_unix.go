//go:build unix

package proxy

import (
	"net"
	"syscall"
)

// probe looks at a connection that nobody uses, in one read(2).
type probe struct {
	socket syscall.RawConn
	read   func(fd uintptr) // made once, it is asked before each request
	silent bool
}

func (p *probe) watch(c net.Conn) {
	if socket, ok := c.(syscall.Conn); ok {
		p.socket, _ = socket.SyscallConn() // fails for a closed one, which the first request notices
	}
	p.read = func(fd uintptr) {
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:])
		p.silent = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	}
}

// hungUp reports whether the service has closed the connection, or has said something that is no answer to anything and
// must not become one.
func (c *conn) hungUp() bool {
	p := &c.probe
	if p.socket == nil {
		return false
	}
	p.silent = false
	return p.socket.Control(p.read) != nil || !p.silent
}
