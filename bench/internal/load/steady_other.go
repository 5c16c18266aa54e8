//go:build !linux

package load

import (
	"context"
	"errors"
	"time"
)

// Steady needs Linux.
func Steady(context.Context, Target, int, int, time.Duration) (time.Duration, error) {
	return 0, errors.New("a steady load needs epoll and timerfd, which only Linux has")
}
