//go:build !linux

package process

import (
	"errors"
	"os"
	"syscall"
	"time"
)

var errNotLinux = errors.New("the benchmarks read /proc: they need Linux")

func attributes() *syscall.SysProcAttr { return nil }

func widen(*os.File) {}

func cpuTime(int) (time.Duration, error) { return 0, errNotLinux }

func memory(int) (Memory, error) { return Memory{}, errNotLinux }

// Busy needs Linux.
func (Core) Busy() (time.Duration, error) { return 0, errNotLinux }

// Confine needs Linux.
func (Core) Confine() error { return errNotLinux }
