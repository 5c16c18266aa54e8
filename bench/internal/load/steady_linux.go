package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/convoflow/convoflow/libs/clock"
)

const (
	responseTimeout = 30 * time.Second // for the last responses; a busy machine takes seconds
	responseSize    = 16 << 10         // bytes, with the header
)

var errStalled = fmt.Errorf("not all responses arrived within %s", responseTimeout)

// Steady sends rate requests per second for d, whether or not the earlier ones have been answered, and returns the 99th percentile
// of the response times. A response time starts when its request is due, so that the requests that wait while a server stalls count
// too.
//
// It uses one thread with an epoll and a timerfd, which wake it within microseconds of the time when a request is due. Go's timers
// may be a millisecond late, so that libraries that sleep between requests measure bursts: docs/adr/0010.
func Steady(ctx context.Context, t Target, connections, rate int, d time.Duration) (p99 time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := steady{interval: time.Second / time.Duration(rate), total: int(d.Seconds() * float64(rate))}
	s.took = make([]time.Duration, 0, s.total)
	defer s.close()
	if err := s.open(t, connections); err != nil {
		return 0, fmt.Errorf("connect to %s: %w", t.URL, err)
	}
	if err := s.run(ctx); err != nil {
		return 0, fmt.Errorf("send to %s: %w", t.URL, err)
	}
	slices.Sort(s.took)
	return s.took[len(s.took)*99/100], nil
}

type steady struct {
	interval    time.Duration // from one request to the next
	total       int           // requests to send
	request     []byte
	poll, timer int // file descriptors
	connections map[int32]*connection
	idle        []*connection
	elapsed     func() time.Duration
	sent        int
	took        []time.Duration
}

// connection has at most one request in flight.
type connection struct {
	fd       int
	due      time.Duration // of the request in flight
	response []byte
}

func (s *steady) open(t Target, connections int) (err error) {
	u, err := url.Parse(t.URL)
	if err != nil {
		return fmt.Errorf("read the URL: %w", err)
	}
	addr, err := netip.ParseAddrPort(u.Host)
	if err != nil {
		return fmt.Errorf("read the address: %w", err)
	}
	s.request = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", u.Path, u.Host, t.Token)
	s.connections = map[int32]*connection{}
	if s.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("make an epoll: %w", err)
	}
	if s.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return fmt.Errorf("make a timer: %w", err)
	}
	if err := s.watch(s.timer); err != nil {
		return err
	}
	for range connections {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("make a socket: %w", err)
		}
		c := &connection{fd: fd, response: make([]byte, 0, responseSize)}
		s.connections[int32(fd)] = c
		s.idle = append(s.idle, c)
		err = errors.Join(
			unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}),
			unix.SetNonblock(fd, true),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			s.watch(fd))
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *steady) watch(fd int) error {
	if err := unix.EpollCtl(s.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("add to the epoll: %w", err)
	}
	return nil
}

func (s *steady) close() {
	for fd := range s.connections {
		_ = unix.Close(int(fd))
	}
	_ = unix.Close(s.timer)
	_ = unix.Close(s.poll)
}

func (s *steady) run(ctx context.Context) error {
	s.elapsed = clock.Stopwatch()
	events := make([]unix.EpollEvent, len(s.connections)+1)
	for len(s.took) < s.total {
		if err := s.send(); err != nil {
			return err
		}
		n, err := unix.EpollWait(s.poll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait: %w", err)
		}
		for _, event := range events[:max(n, 0)] {
			if event.Fd == int32(s.timer) {
				_, _ = unix.Read(s.timer, make([]byte, 8))
				continue
			}
			if err := s.receive(s.connections[event.Fd]); err != nil {
				return err
			}
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.elapsed() > s.due(s.total)+responseTimeout:
			return errStalled
		}
	}
	return nil
}

// due returns when request i is due.
func (s *steady) due(i int) time.Duration { return time.Duration(i) * s.interval }

// send sends the requests that are due while there are idle connections, and sets the timer for the next one.
func (s *steady) send() error {
	now := s.elapsed()
	for s.sent < s.total && s.due(s.sent) <= now && len(s.idle) > 0 {
		c := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		c.due = s.due(s.sent)
		s.sent++
		if n, err := unix.Write(c.fd, s.request); err != nil || n < len(s.request) {
			return fmt.Errorf("write %d of %d bytes: %w", n, len(s.request), err)
		}
	}
	next := s.due(s.sent)
	if s.sent == s.total || len(s.idle) == 0 {
		next = now + responseTimeout // a response arrives before that
	}
	until := unix.NsecToTimespec(int64(max(1, next-s.elapsed())))
	if err := unix.TimerfdSettime(s.timer, 0, &unix.ItimerSpec{Value: until}, nil); err != nil {
		return fmt.Errorf("set the timer: %w", err)
	}
	return nil
}

// receive reads the available bytes of a response.
func (s *steady) receive(c *connection) error {
	n, err := unix.Read(c.fd, c.response[len(c.response):cap(c.response)])
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	if err != nil || n == 0 {
		return fmt.Errorf("read a response: %d bytes: %w", n, err)
	}
	c.response = c.response[:len(c.response)+n]
	done, err := complete(c.response)
	if done {
		s.took = append(s.took, s.elapsed()-c.due)
		c.response = c.response[:0]
		s.idle = append(s.idle, c)
	}
	return err
}

var (
	headEnd  = []byte("\r\n\r\n")
	okStatus = []byte("HTTP/1.1 200 ")
	length   = []byte("\r\nContent-Length: ")
)

// complete reports whether a response is complete. It fails if the response is not a 200 with a Content-Length.
func complete(response []byte) (bool, error) {
	head, body, ok := bytes.Cut(response, headEnd)
	if !ok {
		return false, nil
	}
	_, after, found := bytes.Cut(head, length)
	value, _, _ := bytes.Cut(after, []byte("\r"))
	n, err := strconv.Atoi(string(value))
	if !found || err != nil || !bytes.HasPrefix(head, okStatus) {
		return false, fmt.Errorf("the response is not a 200 with a Content-Length: %.300s", head)
	}
	return len(body) >= n, nil
}
