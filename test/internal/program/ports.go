package program

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// The ports of Ports are below the kernel's range of ephemeral ports, which begins at 32768.
const firstPort, portCount = 20_000, 12_000

// Ports hands out addresses in order, from a random one, for test runs that are concurrent. It is safe for concurrent use.
type Ports struct {
	offset int64
	taken  atomic.Int64
}

// NewPorts returns the ports of a test run.
func NewPorts() *Ports { return &Ports{offset: rand.Int64N(portCount)} }

// Free returns a loopback address on which nothing listens. No two calls return the same one: a program that is being restarted
// does not listen, and another one must not get its address meanwhile.
func (p *Ports) Free() (string, error) {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+(p.offset+p.taken.Add(1))%portCount))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", errors.New("no free port")
}
