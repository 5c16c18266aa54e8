// Package sink is where the traces of a benchmark go: an OTLP/HTTP receiver that counts spans and keeps none. It does not
// decode them, for it works on the core that makes the load.
package sink

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
)

// Sink counts spans. The zero Sink is ready; it serves POST /v1/traces with uncompressed protobuf.
type Sink struct{ spans atomic.Int64 }

// Spans is how many have arrived.
func (s *Sink) Spans() int64 { return s.spans.Load() }

// The way to the spans in an ExportTraceServiceRequest, as numbers of fields: resource_spans, scope_spans, spans.
var path = []protowire.Number{1, 2, 2}

func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender has left
	}
	n, err := count(body, path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.spans.Add(n)
	w.Header().Set("Content-Type", "application/x-protobuf") // of an empty answer
}

// count is how many messages lie at the end of the path.
func count(message []byte, path []protowire.Number) (n int64, err error) {
	if len(path) == 0 {
		return 1, nil
	}
	for len(message) > 0 {
		number, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return 0, fmt.Errorf("read a tag: %w", protowire.ParseError(length))
		}
		message = message[length:]
		if number == path[0] && kind == protowire.BytesType {
			inner, length := protowire.ConsumeBytes(message)
			if length < 0 {
				return 0, fmt.Errorf("read a message: %w", protowire.ParseError(length))
			}
			found, err := count(inner, path[1:])
			if err != nil {
				return 0, err
			}
			n, message = n+found, message[length:]
			continue
		}
		length = protowire.ConsumeFieldValue(number, kind, message)
		if length < 0 {
			return 0, fmt.Errorf("read a field: %w", protowire.ParseError(length))
		}
		message = message[length:]
	}
	return n, nil
}
