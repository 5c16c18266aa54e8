package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/run"
)

const (
	// streamTick is how often a stream checks that its caller may still read it.
	streamTick = time.Second
	// heartbeat is how many ticks a stream is silent at most: proxies close silent connections.
	heartbeat = 15
	// streamWrite is how long one write to a client may take.
	streamWrite = 30 * time.Second
	// reconnectAfter is how long clients are to wait before they connect again.
	reconnectAfter = 2 * time.Second
)

// Message is one server-sent event. Data is sent as JSON.
type Message struct {
	ID   string // the client returns it as Last-Event-ID; may be empty
	Name string
	Data any
}

// Source is where the events of a stream come from.
type Source struct {
	// Next returns the messages since it was called last, or none. With io.EOF they are the last ones.
	Next func(ctx context.Context) ([]Message, error)
	// Wake receives when Next may have messages. If it is nil, Next is called every second.
	Wake <-chan struct{}
	// Close is called at the end. It may be nil.
	Close func()
}

// Stream responds with server-sent events of what the method returned. The stream ends when the source does, the caller's token is
// no longer accepted, or the server stops; clients then connect again. The contract has x-timeout: none.
func Stream[Res any](source func(Res) Source) Option {
	return func(rt *route) {
		rt.respond = func(w http.ResponseWriter, r *http.Request, v any) error {
			return ServeEvents(w, r, source(v.(Res)), func() bool {
				_, refused := rt.router.authenticate(r)
				return refused == nil
			})
		}
	}
}

// ServeEvents responds with the events of a source until it ends, allowed returns false, the client disconnects, or the server stops.
// It fails before the response has begun if the source's first Next does.
func ServeEvents(w http.ResponseWriter, r *http.Request, s Source, allowed func() bool) error {
	err := serveEvents(w, r, s, allowed)
	if errors.Is(err, errDisconnected) {
		return nil
	}
	return err
}

func serveEvents(w http.ResponseWriter, r *http.Request, s Source, allowed func() bool) error {
	if s.Close != nil {
		defer s.Close()
	}
	ctx := r.Context()
	messages, err := s.Next(ctx) // before the header, so that it can fail with a status
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would collect events
	w.WriteHeader(http.StatusOK)
	out := eventWriter{w: w, control: http.NewResponseController(w)}
	if err := out.write(fmt.Sprintf("retry: %d\n\n", reconnectAfter.Milliseconds())); err != nil {
		return err
	}
	ticker := time.NewTicker(streamTick)
	defer ticker.Stop()
	for {
		if wrong := out.send(messages); wrong != nil || err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(wrong, err)
		}
		messages = nil
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-run.Draining(ctx).Done():
			return nil
		case <-s.Wake:
			messages, err = s.Next(ctx)
		case <-ticker.C:
			if !allowed() {
				return nil
			}
			if s.Wake == nil {
				messages, err = s.Next(ctx)
			}
			if out.quiet++; out.quiet >= heartbeat {
				if err := out.write(": still there\n\n"); err != nil {
					return err
				}
			}
		}
	}
}

// eventWriter writes events and flushes them.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	quiet   int // ticks since the last write
}

func (e *eventWriter) send(messages []Message) error {
	if len(messages) == 0 {
		return nil
	}
	var text bytes.Buffer
	for _, m := range messages {
		raw, err := json.Marshal(m.Data) // in one line
		if err != nil {
			return fmt.Errorf("marshal an event: %w", err)
		}
		if m.ID != "" {
			fmt.Fprintf(&text, "id: %s\n", m.ID)
		}
		fmt.Fprintf(&text, "event: %s\ndata: %s\n\n", m.Name, raw)
	}
	return e.write(text.String())
}

func (e *eventWriter) write(text string) error {
	e.quiet = 0
	_ = e.control.SetWriteDeadline(clock.Deadline(streamWrite)) // a recorder in tests has none
	if _, err := io.WriteString(e.w, text); err != nil {
		return fmt.Errorf("%w: %w", errDisconnected, err)
	}
	if err := e.control.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errDisconnected, err)
	}
	return nil
}

// errDisconnected means that the client has disconnected, or that it receives nothing. That is how streams end, and no failure.
var errDisconnected = errors.New("the client has disconnected")
