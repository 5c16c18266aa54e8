//go:build unix

package proxy

import (
	"crypto/tls"
	"syscall"
	"time"
)

// hungUp reports whether the service has closed a connection that nobody used, or has said something on it.
func (c *conn) hungUp() bool {
	raw := c.Conn
	if secured, ok := raw.(*tls.Conn); ok {
		raw = secured.NetConn()
	}
	socket, ok := raw.(syscall.Conn)
	if !ok {
		return false
	}
	control, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	_ = c.SetDeadline(time.Time{}) // that of its last request may be over
	silent := false
	err = control.Read(func(fd uintptr) bool {
		var b [1]byte
		_, err := syscall.Read(int(fd), b[:])
		silent = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err != nil || !silent
}
