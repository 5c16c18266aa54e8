package rpc_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/patch"
	"github.com/convoflow/convoflow/libs/rpc"
)

type versioned struct {
	Version int64 `json:"version"`
}

func TestAPolledObjectIsNotLoadedIfItsVersionIsUnchanged(t *testing.T) {
	t.Parallel()
	s, err := newRouter(t, things, nil)
	require.NoError(t, err)
	current, loaded, allowed := int64(7), 0, true
	get := func(context.Context, idRequest) (versioned, error) {
		loaded++
		return versioned{current}, nil
	}
	poll := func(context.Context, idRequest) (int64, error) {
		if !allowed {
			return 0, fault.New(fault.Forbidden, "forbidden", "Not yours")
		}
		return current, nil
	}
	rpc.Handle(s.router, "GET /things/{id}", "things.get", get, rpc.Version(func(v versioned) int64 { return v.Version }), rpc.Poll(poll),
		rpc.View(func(v versioned) any { return v }))
	s.api, err = s.handlerOf(t, "things.get")
	require.NoError(t, err)

	first := s.do(t, request{method: "GET", target: "/things/" + thingID})
	tag := first.Header().Get("ETag")
	require.Equal(t, `W/"7-test"`, tag)
	require.Equal(t, 1, loaded)
	same := s.do(t, request{method: "GET", target: "/things/" + thingID, header: with("If-None-Match", tag)})
	require.Equal(t, http.StatusNotModified, same.Code)
	require.Equal(t, tag, same.Header().Get("ETag"))
	require.Equal(t, "private, no-cache", same.Header().Get("Cache-Control"))
	require.Empty(t, same.Body.String())
	require.Equal(t, 1, loaded, "nothing was loaded")
	current = 8
	require.Equal(t, 200, s.do(t, request{method: "GET", target: "/things/" + thingID, header: with("If-None-Match", tag)}).Code)
	require.Equal(t, 2, loaded)
	allowed = false
	require.Equal(t, http.StatusForbidden, s.do(t, request{method: "GET", target: "/things/" + thingID, header: with("If-None-Match", `W/"8-test"`)}).Code)
}

func TestBeforeRunsOutsideTheTransaction(t *testing.T) {
	t.Parallel()
	var order []string
	s, err := newRouter(t, things, storeFunc(func() { order = append(order, "transaction") }))
	require.NoError(t, err)
	before := func(context.Context, createRequest) error { order = append(order, "before"); return nil }
	method := func(context.Context, createRequest) (struct{}, error) {
		order = append(order, "method")
		return struct{}{}, nil
	}
	rpc.Handle(s.router, "POST /things", "things.create", method, rpc.Idempotent(), rpc.Before(before))
	s.api, err = s.handlerOf(t, "things.create")
	require.NoError(t, err)
	require.Equal(t, 200, s.do(t, request{method: "POST", target: "/things", body: `{"name":"a","size":1}`, header: with("Idempotency-Key", "k")}).Code)
	require.Equal(t, []string{"before", "transaction", "method"}, order)
}

func TestAStreamIsPartOfItsSpanAndIsAbortedWhenItFails(t *testing.T) {
	t.Parallel()
	s, err := newRouter(t, things, nil)
	require.NoError(t, err)
	rpc.Handle(s.router, "GET /things/{id}", "things.get", echo[idRequest], rpc.Respond(func(w http.ResponseWriter, r *http.Request, _ idRequest) error {
		require.Empty(t, s.spans.Ended(), "the span has not ended")
		_, _ = w.Write([]byte("half"))
		if r.URL.RawQuery == "fail" {
			return fault.New(fault.Internal, "broken", "Broken")
		}
		return nil
	}))
	s.api, err = s.handlerOf(t, "things.get")
	require.NoError(t, err)
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { s.do(t, request{method: "GET", target: "/things/" + thingID + "?fail"}) }, "an error after the response has begun aborts the connection")
	require.Len(t, s.spans.Ended(), 1)
}

func TestAChangeIsMeantForAVersion(t *testing.T) {
	t.Parallel()
	s, err := newRouter(t, things, nil)
	require.NoError(t, err)
	change := func(ctx context.Context, _ idRequest) (versioned, error) { return versioned{8}, patch.Check(ctx, 7) }
	rpc.Handle(s.router, "PATCH /things/{id}", "things.change", change, rpc.Version(func(v versioned) int64 { return v.Version }), rpc.Conditional())
	s.api, err = s.handlerOf(t, "things.change")
	require.NoError(t, err)
	for header, want := range map[string]int{
		"": 200, "*": 200, `W/"7-test"`: 200, `"7-test"`: 200, `W/"7-an-older-program"`: 200, `W/"6-test", W/"7-test"`: 200,
		`W/"6-test"`: 412, `W/"77-test"`: 412, "nonsense": 412, `"x"`: 412, `W/"-7"`: 412,
	} {
		sent := with("If-Match", header)
		if header == "" {
			sent = with("X-Mode", "")
		}
		got := s.do(t, request{method: "PATCH", target: "/things/" + thingID, body: `{"name":"x"}`, header: sent})
		require.Equal(t, want, got.Code, "%s: %s", header, got.Body)
		if want == 200 {
			require.Equal(t, `W/"8-test"`, got.Header().Get("ETag"), "for the next change")
		}
	}
	same := s.do(t, request{method: "PATCH", target: "/things/" + thingID, body: `{"name":"x"}`, header: with("If-None-Match", `W/"8-test"`)})
	require.Equal(t, 200, same.Code, "only a GET is not modified")
}
