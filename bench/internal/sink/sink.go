// Package sink receives the traces of a benchmark: an OTLP/HTTP receiver that counts spans. It does not decode or store them,
// because it runs on the core that generates the load.
package sink

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
)

// Sink counts spans. The zero value is ready to use. It serves POST /v1/traces with uncompressed protobuf.
type Sink struct{ spans atomic.Int64 }

// Spans returns how many spans have arrived.
func (s *Sink) Spans() int64 { return s.spans.Load() }

// path has the field numbers from an ExportTraceServiceRequest to its spans: resource_spans, scope_spans, spans.
var path = []protowire.Number{1, 2, 2}

func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender has disconnected
	}
	n, err := count(body, path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.spans.Add(n)
	w.Header().Set("Content-Type", "application/x-protobuf") // of an empty response
}

// count returns the number of messages at the end of the path.
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
