package platform

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/convoflow/convoflow/platform/internal/traces"
)

// TracesEnvironment returns the settings with which all services export their traces to a page at that address.
func TracesEnvironment(address string) map[string]string {
	return map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + address, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
		"OTEL_BSP_MAX_QUEUE_SIZE": "8192", // a demo and its polling at once
	}
}

// serveTraces serves the page of traces. It is not an actor but deferred, because the services flush their last spans after all actors
// have stopped.
func (p *Platform) serveTraces(l net.Listener) error {
	viewer, err := traces.New()
	if err != nil {
		return err
	}
	server := &http.Server{Handler: viewer.Handler(), ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) }) // until Close
	p.group.Defer("traces", func() {
		_ = server.Close()
		serving.Wait()
	})
	return nil
}
