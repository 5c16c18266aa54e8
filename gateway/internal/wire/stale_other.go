//go:build !unix

package wire

import "net"

type staleCheck struct{}

func (*staleCheck) prepare(net.Conn) {}

// isStale cannot be determined on this platform, so no connection is reused.
func (c *conn) isStale() bool { return true }
