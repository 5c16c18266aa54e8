// Package run starts and stops the parts of a process. Everything that runs is a named actor: started in order, stopped in
// reverse, each with a deadline. The first that fails ends them all.
package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/convoflow/convoflow/libs/telemetry"
)

// StopTimeout is how long one actor may take to stop. Kubernetes gives a pod 30 s for all of them; only the HTTP server,
// which drains requests, ever takes more than a moment.
const StopTimeout = 10 * time.Second

// Actor runs until ctx ends. It returns nil when it was told to stop, and an error when it cannot go on.
type Actor interface {
	Run(ctx context.Context) error
}

// Func is a function as an actor.
type Func func(ctx context.Context) error

// Run calls f.
func (f Func) Run(ctx context.Context) error { return f(ctx) }

// Group is the parts of one process.
type Group struct {
	log    *slog.Logger
	actors []actor
	closes []closer
}

type actor struct {
	name string
	run  Actor
}

type closer struct {
	name  string
	close func()
}

// NewGroup makes an empty group.
func NewGroup(tel telemetry.Set) *Group { return &Group{log: tel.Log} }

// Add appends an actor. The order of the calls is the order of the start.
func (g *Group) Add(name string, a Actor) { g.actors = append(g.actors, actor{name, a}) }

// Defer adds something to close after every actor has stopped; the last added closes first.
func (g *Group) Defer(name string, close func()) { g.closes = append(g.closes, closer{name, close}) }

// Run starts the actors in order and blocks until ctx ends or one of them ends by itself. Then it stops them in reverse
// and closes what was deferred. Call it once.
func (g *Group) Run(ctx context.Context) error {
	defer g.Close()
	ends := make(chan int, len(g.actors))
	errs := make([]error, len(g.actors))
	cancels := make([]context.CancelFunc, len(g.actors))
	done := make([]chan struct{}, len(g.actors))
	for i, a := range g.actors {
		// Each actor has a context of its own, so that they stop one after the other and not all at once with ctx.
		actorCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancels[i], done[i] = cancel, make(chan struct{})
		started := make(chan struct{})
		go func() {
			close(started)
			errs[i] = safely(actorCtx, a.run)
			close(done[i])
			ends <- i
		}()
		<-started
	}

	var failure error
	first := -1
	select {
	case <-ctx.Done():
	case first = <-ends:
		failure = fmt.Errorf("%s: %w", g.actors[first].name, cmp.Or(errs[first], errors.New("ended by itself")))
		g.log.ErrorContext(ctx, "a part failed, stopping", "actor", g.actors[first].name, "error", failure)
	}
	for i := len(g.actors) - 1; i >= 0; i-- {
		cancels[i]()
		select {
		case <-done[i]:
			if i != first && errs[i] != nil && !errors.Is(errs[i], context.Canceled) {
				g.log.ErrorContext(ctx, "a part failed while stopping", "actor", g.actors[i].name, "error", errs[i])
				failure = errors.Join(failure, fmt.Errorf("%s: %w", g.actors[i].name, errs[i]))
			}
		case <-time.After(StopTimeout):
			g.log.ErrorContext(ctx, "a part did not stop in time", "actor", g.actors[i].name, "timeout", StopTimeout)
			failure = errors.Join(failure, fmt.Errorf("%s did not stop within %s", g.actors[i].name, StopTimeout))
		}
	}
	return failure
}

// Close closes what was deferred without running anything, for a start that went wrong half way.
func (g *Group) Close() {
	for i := len(g.closes) - 1; i >= 0; i-- {
		g.closes[i].close()
	}
	g.closes = nil
}

// safely turns a panic of an actor into its error, so that the other actors still stop in order.
func safely(ctx context.Context, a Actor) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return a.Run(ctx)
}
