package fault_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
)

func TestEveryKindHasAStatusAndARetry(t *testing.T) {
	t.Parallel()
	tests := []struct {
		kind   fault.Kind
		status int
		retry  bool
	}{
		{fault.Internal, 500, true}, {fault.Malformed, 400, false}, {fault.Unauthenticated, 401, false}, {fault.Forbidden, 403, false},
		{fault.NotFound, 404, false}, {fault.MethodNotAllowed, 405, false}, {fault.Conflict, 409, false}, {fault.Stale, 412, false}, {fault.TooLarge, 413, false},
		{fault.Unsupported, 415, false}, {fault.OutOfRange, 416, false}, {fault.Invalid, 422, false}, {fault.Limited, 429, true}, {fault.RequestTimeout, 408, false}, {fault.Unavailable, 503, true}, {fault.Timeout, 504, true}, {fault.BadGateway, 502, true},
	}
	require.Len(t, tests, int(fault.BadGateway)+1, "every kind is in this table")
	for _, tt := range tests {
		err := fmt.Errorf("read recording 018f: %w", fault.New(tt.kind, "some_code", "Some detail"))
		require.Equal(t, tt.status, fault.Status(err))
		require.Equal(t, tt.retry, fault.Retryable(err))
		require.Equal(t, tt.kind, fault.KindOf(err))
		require.True(t, fault.Is(err, tt.kind))
		require.False(t, fault.Is(err, tt.kind+1))
	}
}

func TestErrorsThatAreNotFaults(t *testing.T) {
	t.Parallel()
	secret := errors.New("pq: password of user crm")
	f := fault.Of(fmt.Errorf("read: %w", secret))
	require.Equal(t, fault.Internal, f.Kind)
	require.Equal(t, "internal_error", f.Code)
	require.NotContains(t, f.Detail, "password", "the cause is for the log only")
	require.ErrorIs(t, f, secret)
	require.False(t, fault.Is(secret, fault.Internal), "only a fault has a kind for Is")

	late := fault.Of(fmt.Errorf("query: %w", context.DeadlineExceeded))
	require.Equal(t, fault.Timeout, late.Kind)
	require.Positive(t, late.RetryAfter)
	require.ErrorIs(t, late, context.DeadlineExceeded)
}

func TestTheOuterFaultDecides(t *testing.T) {
	t.Parallel()
	inner := fault.New(fault.NotFound, "call_not_found", "Call not found")
	outer := fault.Wrap(fmt.Errorf("ask calls: %w", inner), fault.Invalid, "unknown_call", "There is no such call")
	require.Equal(t, 422, fault.Status(outer))
	require.Same(t, outer, fault.Of(outer))
	require.Equal(t, "unknown_call: There is no such call: ask calls: call_not_found: Call not found", outer.Error())
	require.Equal(t, "call_not_found: Call not found", inner.Error())
}

func TestFieldsHaveFastAPIsFormat(t *testing.T) {
	t.Parallel()
	err := fault.Fields(fault.BodyField("password", "string_too_short", "String should have at least 8 characters"), fault.Field{Type: "missing", Loc: []any{"body", "items", 0, "id"}, Msg: "Field required"})
	require.Equal(t, 422, fault.Status(err))
	require.Equal(t, "validation_error", err.Code)
	raw, mErr := json.Marshal(err.Fields)
	require.NoError(t, mErr)
	require.JSONEq(t, `[{"type":"string_too_short","loc":["body","password"],"msg":"String should have at least 8 characters"},{"type":"missing","loc":["body","items",0,"id"],"msg":"Field required"}]`, string(raw))
}

func TestExtraMembersAndRetryAfter(t *testing.T) {
	t.Parallel()
	err := fault.New(fault.Conflict, "client_exists", "There is one").With("client_id", "x").With("n", 1).After(3 * time.Second)
	require.Equal(t, fault.Extra{"client_id": "x", "n": 1}, err.Extra)
	require.Equal(t, 3*time.Second, err.RetryAfter)
}
