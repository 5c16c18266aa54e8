// Package traces shows the traces of a platform on a developer's machine: a receiver of OpenTelemetry's protocol (OTLP/HTTP, binary)
// that stores the newest traces in bounded memory, and a page that draws each as a waterfall. It refuses metrics and logs, and
// readers on other machines.
package traces

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Limits of what is stored.
const (
	maxTraces = 300
	maxSpans  = 1000   // of one trace
	maxTotal  = 30_000 // spans of all traces, about 60 MB
	maxText   = 1000   // characters of an attribute
)

// Span is one received span.
type Span struct {
	ID, ParentID string // hex; the parent of a root is empty
	Name         string
	Kind         string // server, client, producer, consumer, internal
	Service      string
	Start, End   time.Time
	Failed       bool
	Message      string // why it failed
	Attributes   []Attribute
	Events       []Event
}

// Attribute is a name with its value as text.
type Attribute struct{ Name, Value string }

// Event is something that happened in a span, such as a statement in the database.
type Event struct {
	Name       string
	After      time.Duration // since the start of the span
	Attributes []Attribute
}

// trace is the spans of a trace, in order of arrival.
type trace struct {
	id      string
	spans   []Span
	dropped int // spans beyond maxSpans
}

// store has the newest traces. It is safe for concurrent use.
type store struct {
	mu     sync.Mutex
	byID   map[string]*trace
	order  []string // ids, that of the oldest trace first
	stored int      // spans
}

func newStore() *store { return &store{byID: map[string]*trace{}} }

// add stores a span, and forgets the oldest traces if there are too many.
func (s *store) add(traceID string, span Span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.byID[traceID]
	if t == nil {
		t = &trace{id: traceID}
		s.byID[traceID], s.order = t, append(s.order, traceID)
	}
	if len(t.spans) == maxSpans {
		t.dropped++
		return
	}
	t.spans = append(t.spans, span)
	for s.stored++; len(s.order) > maxTraces || s.stored > maxTotal; s.order = s.order[1:] {
		s.stored -= len(s.byID[s.order[0]].spans)
		delete(s.byID, s.order[0])
	}
}

// newest returns all traces, the one that began last first.
func (s *store) newest() []trace {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]trace, 0, len(s.order))
	for _, t := range s.byID {
		list = append(list, t.clone())
	}
	slices.SortFunc(list, func(a, b trace) int {
		return cmp.Or(b.spans[0].Start.Compare(a.spans[0].Start), cmp.Compare(a.id, b.id))
	})
	return list
}

// find returns a trace.
func (s *store) find(id string) (trace, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.byID[id]
	if !ok {
		return trace{}, false
	}
	return t.clone(), true
}

// clone returns the trace with its spans in the order in which they began.
func (t *trace) clone() trace {
	spans := slices.Clone(t.spans)
	slices.SortStableFunc(spans, func(a, b Span) int { return a.Start.Compare(b.Start) })
	return trace{t.id, spans, t.dropped}
}
