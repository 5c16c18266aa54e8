package sink_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/convoflow/convoflow/bench/internal/sink"
)

// message returns a message with these fields, which are bytes.
func message(number protowire.Number, fields ...[]byte) (m []byte) {
	for _, field := range fields {
		m = protowire.AppendBytes(protowire.AppendTag(m, number, protowire.BytesType), field)
	}
	return m
}

func TestSpansAreCounted(t *testing.T) {
	t.Parallel()
	span := message(5, []byte("gateway.calls.get"))
	scope := append(message(1, message(1, []byte("a scope's name"))), message(2, span, span, span)...)
	resource := append(message(1, []byte{}), message(2, scope)...)
	export := message(1, resource, resource)

	var s sink.Sink
	require.Equal(t, http.StatusOK, send(&s, export))
	require.EqualValues(t, 6, s.Spans())
	require.Equal(t, http.StatusBadRequest, send(&s, export[:len(export)-1]))
	require.EqualValues(t, 6, s.Spans())
}

func send(s *sink.Sink, body []byte) int {
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/v1/traces", bytes.NewReader(body)))
	return answer.Code
}
