package call

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
)

// Changes is the journal of changes that event streams read, in the order of the commits. It has those of the last ChangesAge.
type Changes interface {
	// Head returns the position of the newest change, or "" without any.
	Head(ctx context.Context) (position string, err error)
	// Has reports whether the journal still has the change of a position, which may be any text.
	Has(ctx context.Context, position string) (bool, error)
	// List returns up to limit changes after a position, the oldest first. It is "" for the beginning.
	List(ctx context.Context, f ChangeFilter, after string, limit int) ([]Change, error)
	// Clean removes the changes that are older than age, by the database's clock.
	Clean(ctx context.Context, age time.Duration) error
}

// ChangesAge is for how long a stream can be resumed.
const ChangesAge = 24 * time.Hour

// ChangeFilter selects changes of one call, or of one agent's calls. Empty fields do not filter.
type ChangeFilter struct{ CallID, AgentID string }

func (f ChangeFilter) has(c Change) bool {
	return (f.CallID == "" || f.CallID == c.CallID) && (f.AgentID == "" || f.AgentID == c.AgentID)
}

// Change is what a stream shows of a changed call.
type Change struct {
	Position  string    `json:"-"`
	CallID    string    `json:"id"`
	AgentID   string    `json:"agent_id"`
	Version   int64     `json:"version"`
	Status    Status    `json:"status"`
	Outcome   *string   `json:"outcome"`
	Error     *Problem  `json:"error"`
	Progress  float64   `json:"progress"`
	Step      *string   `json:"step"`
	UpdatedAt time.Time `json:"updated_at"`
	Deleted   bool      `json:"deleted"`
}

// ChangeOf returns what a stream shows of a call.
func ChangeOf(c Call) Change {
	return Change{
		CallID: c.ID, AgentID: c.AgentID, Version: c.Version, Status: c.Status, Outcome: c.Outcome, Error: c.Problem, Progress: c.Progress, Step: c.Step, UpdatedAt: c.UpdatedAt,
	}
}

// pollEvery is how often a process looks for changes while it has streams.
const pollEvery = 300 * time.Millisecond

// pollSize is how many changes are read at once.
const pollSize = 500

// Watcher wakes the streams of a process whose calls have changed. It reads the journal once for all of them, and not without any.
type Watcher struct {
	Changes Changes
	Log     *slog.Logger

	mu      sync.Mutex
	streams map[*Stream]struct{}
}

// Run implements an actor.
func (w *Watcher) Run(ctx context.Context) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	position, failed := "", false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if w.isIdle() {
			position = ""
			continue
		}
		next, err := w.poll(ctx, position)
		if err != nil && !failed && ctx.Err() == nil {
			w.Log.WarnContext(ctx, "the changes of calls cannot be read, trying again", "error", err)
		}
		position, failed = next, err != nil
	}
}

// poll wakes the streams of the changes after a position, and returns the new one. Without a position it wakes all of them.
func (w *Watcher) poll(ctx context.Context, position string) (string, error) {
	if position == "" {
		head, err := w.Changes.Head(ctx)
		if err == nil {
			w.wake(func(*Stream) bool { return true })
		}
		return head, err
	}
	changes, err := w.Changes.List(ctx, ChangeFilter{}, position, pollSize)
	for _, c := range changes {
		position = c.Position
		w.wake(func(s *Stream) bool { return s.filter.has(c) })
	}
	return position, err
}

func (w *Watcher) isIdle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.streams) == 0
}

func (w *Watcher) wake(whether func(*Stream) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.streams {
		if whether(s) {
			s.wakeUp()
		}
	}
}

func (w *Watcher) add(s *Stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.streams == nil {
		w.streams = map[*Stream]struct{}{}
	}
	w.streams[s] = struct{}{}
}

func (w *Watcher) remove(s *Stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.streams, s)
}

// Stream is the changes of one call, or of all calls that a caller sees. It is not safe for concurrent use.
type Stream struct {
	// Position is that of the last change that Next has returned, or of the newest one when the stream began.
	Position string
	// Resumed is false if the stream begins now: the caller may have missed any change.
	Resumed bool
	// First is the call when the stream began, of a stream of one call that was not resumed.
	First *Change

	filter  ChangeFilter
	watcher *Watcher
	wake    chan struct{}
}

// OfOne reports whether the stream is of one call.
func (s *Stream) OfOne() bool { return s.filter.CallID != "" }

// Wake receives when there may be changes.
func (s *Stream) Wake() <-chan struct{} { return s.wake }

func (s *Stream) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default: // it has not read since the last time
	}
}

// Close ends the stream.
func (s *Stream) Close() { s.watcher.remove(s) }

// Next returns the changes since the last call, if there are any.
func (s *Stream) Next(ctx context.Context) ([]Change, error) {
	changes, err := s.watcher.Changes.List(ctx, s.filter, s.Position, pollSize)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	if len(changes) == pollSize {
		s.wakeUp() // there may be more
	}
	s.Position = changes[len(changes)-1].Position
	return changes, nil
}

// WatchRequest opens a stream, of one call or of all.
type WatchRequest struct {
	ID   string `path:"id"`
	Last string `header:"Last-Event-ID"` // position of the last change that the caller has
}

// Watch opens the stream of a call; the caller closes it. It fails as Get does.
func (s *Service) Watch(ctx context.Context, req WatchRequest) (*Stream, error) {
	r, err := s.Revisions.Find(ctx, req.ID)
	if err == nil {
		err = checkAccess(ctx, r.AgentID)
	}
	if err != nil {
		return nil, err
	}
	stream, err := s.open(ctx, ChangeFilter{CallID: req.ID}, req.Last)
	if err != nil || stream.Resumed {
		return stream, err
	}
	// Read after the position: a change between the two is sent twice, and none is missed.
	found, err := s.Calls.List(ctx, Filter{IDs: []string{req.ID}, ListRequest: ListRequest{Request: page.Request{Limit: 1}}})
	if err == nil && len(found.Items) == 0 {
		err = NotFound()
	}
	if err != nil {
		stream.Close()
		return nil, err
	}
	first := ChangeOf(found.Items[0])
	first.Position = stream.Position
	stream.First = &first
	return stream, nil
}

// WatchAllRequest opens a stream of all calls that the caller sees.
type WatchAllRequest struct {
	Last string `header:"Last-Event-ID"`
}

// WatchAll opens the stream of the caller's calls, or of all calls for an admin; the caller closes it.
func (s *Service) WatchAll(ctx context.Context, req WatchAllRequest) (*Stream, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, ChangeFilter{AgentID: caller.Scope()}, req.Last)
}

func (s *Service) open(ctx context.Context, f ChangeFilter, last string) (*Stream, error) {
	head, err := s.Watcher.Changes.Head(ctx)
	if err != nil {
		return nil, err
	}
	known := false
	if last != "" {
		if known, err = s.Watcher.Changes.Has(ctx, last); err != nil {
			return nil, err
		}
	}
	if !known {
		last = ""
	}
	stream := &Stream{Position: cmp.Or(last, head), Resumed: known, filter: f, watcher: s.Watcher, wake: make(chan struct{}, 1)}
	stream.wakeUp() // for what has happened since
	s.Watcher.add(stream)
	return stream, nil
}
