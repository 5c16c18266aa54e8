package rpc_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/rpc"
)

func TestABodyIsReadWithinTheBudget(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789abcdef"), 10_000) // 160 kB
	for _, size := range []int{0, 1, 4095, 4096, 4097, 8191, 100_000, len(content)} {
		for _, length := range []int64{-1, int64(size)} {
			for name, body := range map[string]io.Reader{
				"at once": bytes.NewReader(content[:size]), "byte by byte": iotest.OneByteReader(bytes.NewReader(content[:size])), "with EOF": iotest.DataErrReader(bytes.NewReader(content[:size])),
			} {
				budget := rpc.NewBudget(1 << 20)
				buffer := budget.Buffer()
				raw, err := buffer.ReadAll(body, length)
				require.NoError(t, err)
				require.Equal(t, content[:size], raw, "%s %d", name, size)
				require.GreaterOrEqual(t, budget.Held(), int64(size))
				require.LessOrEqual(t, budget.Held(), max(4096, 2*int64(size)))
				buffer.Release()
				require.Zero(t, budget.Held())
			}
		}
	}
}

func TestABodyBeyondTheBudgetIsRefused(t *testing.T) {
	t.Parallel()
	budget := rpc.NewBudget(100_000)
	first := budget.Buffer()
	_, err := first.ReadAll(strings.NewReader(strings.Repeat("x", 60_000)), 60_000)
	require.NoError(t, err)
	second := budget.Buffer()
	_, err = second.ReadAll(io.LimitReader(endless{}, 60_000), -1)
	require.True(t, fault.Is(err, fault.Unavailable), err)
	require.Equal(t, "overloaded", fault.Of(err).Code)
	require.Positive(t, fault.Of(err).RetryAfter)
	require.LessOrEqual(t, budget.Held(), int64(100_000))
	second.Release()
	first.Release()
	require.Zero(t, budget.Held())

	cut := errors.New("cut")
	third := budget.Buffer()
	_, err = third.ReadAll(io.MultiReader(strings.NewReader("x"), iotest.ErrReader(cut)), -1)
	require.ErrorIs(t, err, cut)
	third.Release()
	require.Zero(t, budget.Held())
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// Hundreds of clients that each hold a part of a body share the budget; others are refused until they have left.
func TestBodiesInMemoryShareABudget(t *testing.T) {
	t.Parallel()
	const limit, clients, sent = 1 << 20, 300, 16 << 10
	s := start(t, nil)
	budget := rpc.NewBudget(limit)
	s.router.LimitBodies(budget)
	server := httptest.NewServer(s.api)
	t.Cleanup(server.Close)

	var refused, full sync.WaitGroup
	conns := make(chan net.Conn, clients)
	statuses := make(chan int, clients)
	for range clients {
		full.Go(func() {
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				statuses <- 0
				return
			}
			_, _ = fmt.Fprintf(conn, "POST /things HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 500000\r\n\r\n%s", agentToken, strings.Repeat(" ", sent))
			conns <- conn
			refused.Go(func() {
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					statuses <- 0
					return
				}
				_ = res.Body.Close()
				if res.Header.Get("Retry-After") == "" {
					statuses <- 0
				}
				statuses <- res.StatusCode
			})
		})
	}
	full.Wait()
	// 16 kB arrive in a buffer of 16 to 32 kB, so 64 at most are held and the others refused.
	for range clients - limit/sent {
		require.Equal(t, http.StatusServiceUnavailable, <-statuses)
		require.LessOrEqual(t, budget.Held(), int64(limit))
	}
	w := s.do(t, request{method: "POST", target: "/login", body: "username=a&password=b", header: with("Content-Type", "application/x-www-form-urlencoded")})
	require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable, http.StatusUnprocessableEntity}, w.Code)
	for range clients {
		_ = (<-conns).Close()
	}
	require.Eventually(t, func() bool { return budget.Held() == 0 }, time.Minute, time.Millisecond)
	refused.Wait()
	w = s.do(t, request{method: "POST", target: "/things", body: `{"name":"a","size":1}`})
	require.Equal(t, http.StatusCreated, w.Code, w.Body)
	require.Zero(t, budget.Held())
}
