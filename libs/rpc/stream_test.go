package rpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// streamed runs a stream to its end and returns what it has written, and how long it took.
func streamed(t *testing.T, ctx context.Context, authenticate Authenticator, s Source) (*httptest.ResponseRecorder, time.Duration, error) {
	t.Helper()
	rt := &route{router: &Router{authenticate: authenticate}}
	w, begin := httptest.NewRecorder(), time.Now()
	Stream(func(s Source) Source { return s })(rt)
	err := rt.respond(w, httptest.NewRequest(http.MethodGet, "/events", nil).WithContext(ctx), s)
	return w, time.Since(begin), err
}

func accept(*http.Request) (identity.Caller, error) { return identity.Caller{}, nil }

func TestAStreamWritesEventsAndHeartbeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wake, closed, reads := make(chan struct{}, 1), false, 0
		time.AfterFunc(40*time.Second, func() { wake <- struct{}{} })
		w, took, err := streamed(t, t.Context(), accept, Source{Wake: wake, Close: func() { closed = true }, Next: func(context.Context) ([]Message, error) {
			if reads++; reads == 1 {
				return []Message{{ID: "1-2", Name: "call", Data: map[string]string{"text": "a\nb"}}}, nil
			}
			return []Message{{Name: "deleted", Data: 1}}, io.EOF
		}})
		require.NoError(t, err)
		require.Equal(t, 40*time.Second, took)
		require.Equal(t, "retry: 2000\n\nid: 1-2\nevent: call\ndata: {\"text\":\"a\\nb\"}\n\n: still there\n\n: still there\n\nevent: deleted\ndata: 1\n\n", w.Body.String())
		require.Equal(t, "no", w.Header().Get("X-Accel-Buffering"))
		require.True(t, w.Flushed)
		require.True(t, closed)
	})
}

func TestAStreamWithoutWakeIsReadEverySecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		_, took, err := streamed(t, t.Context(), accept, Source{Next: func(context.Context) ([]Message, error) {
			if reads++; reads == 4 {
				return nil, io.EOF
			}
			return nil, nil
		}})
		require.NoError(t, err)
		require.Equal(t, 3*time.Second, took)
	})
}

// Access ends within a second of the logout, not when the client disconnects.
func TestAStreamEndsWhenItsCallerIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Bool
		time.AfterFunc(2500*time.Millisecond, func() { ended.Store(true) })
		refuse := func(*http.Request) (identity.Caller, error) {
			if ended.Load() {
				return identity.Caller{}, fault.New(fault.Unauthenticated, "session_ended", "")
			}
			return identity.Caller{}, nil
		}
		_, took, err := streamed(t, t.Context(), refuse, Source{Wake: make(chan struct{}), Next: func(context.Context) ([]Message, error) { return nil, nil }})
		require.NoError(t, err)
		require.Equal(t, 3*time.Second, took)
	})
}

func TestAStreamThatFailsAtItsBeginHasAStatus(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	w, _, err := streamed(t, t.Context(), accept, Source{Next: func(context.Context) ([]Message, error) { return nil, broken }})
	require.ErrorIs(t, err, broken)
	require.Empty(t, w.Header())
	require.Empty(t, w.Body.String())
}

// unread is a response whose client has disconnected.
type unread struct{ *httptest.ResponseRecorder }

func (unread) Write([]byte) (int, error)       { return 0, io.ErrClosedPipe }
func (unread) WriteString(string) (int, error) { return 0, io.ErrClosedPipe }

func TestADisconnectedClientIsNoFailureOfAStream(t *testing.T) {
	t.Parallel()
	closed := false
	err := ServeEvents(unread{httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, "/events", nil), Source{
		Close: func() { closed = true }, Next: func(context.Context) ([]Message, error) { return nil, nil },
	}, func() bool { return true })
	require.NoError(t, err)
	require.True(t, closed)
}
