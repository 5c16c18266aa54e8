//go:build !unix

package proxy

// hungUp cannot be known here: what is sent to a service that has hung up is answered with 503.
func (c *conn) hungUp() bool { return false }
