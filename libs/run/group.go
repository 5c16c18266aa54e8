// Package run starts and stops the parts of a process: actors, HTTP servers, signals and exit codes. Everything that runs is a
// named actor. Actors are started in order and stopped in reverse order, each with a deadline. The first actor that fails
// stops all others. The package refuses to restart an actor: the orchestrator restarts the process.
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

// StopTimeout is how long one actor may take to stop, unless it is a Slow one. Kubernetes gives a pod 30 s for all of them by default;
// only the HTTP server, which drains requests, takes more than a few milliseconds.
const StopTimeout = 10 * time.Second

// Slow is an Actor that may take another time than StopTimeout to stop.
type Slow interface{ StopTimeout() time.Duration }

func stopTimeout(a Actor) time.Duration {
	if slow, ok := a.(Slow); ok {
		return slow.StopTimeout()
	}
	return StopTimeout
}

// Actor runs until ctx ends. It then returns nil or ctx.Err(). It returns another error when it cannot continue.
type Actor interface {
	Run(ctx context.Context) error
}

// Func is a function that implements Actor.
type Func func(ctx context.Context) error

// Run calls f.
func (f Func) Run(ctx context.Context) error { return f(ctx) }

// Group is the actors of one process and the resources to close after them. It is not safe for concurrent use.
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

// NewGroup returns an empty group.
func NewGroup(tel telemetry.Set) *Group { return &Group{log: tel.Log} }

// Add appends an actor. Actors are started in the order of the calls.
func (g *Group) Add(name string, a Actor) { g.actors = append(g.actors, actor{name, a}) }

// Defer adds a function to call after all actors have stopped. The last one added is called first.
func (g *Group) Defer(name string, close func()) { g.closes = append(g.closes, closer{name, close}) }

// Run starts the actors in order and blocks until ctx ends or an actor returns. Then it stops the actors in reverse order, each
// within its timeout, and calls the deferred functions. It returns the errors of the actors that failed. Call it once.
func (g *Group) Run(ctx context.Context) error {
	defer g.Close()
	ends := make(chan int, len(g.actors))
	errs := make([]error, len(g.actors))
	cancels := make([]context.CancelFunc, len(g.actors))
	done := make([]chan struct{}, len(g.actors))
	for i, a := range g.actors {
		// Each actor has its own context, so that they stop one after another and not all at once when ctx ends.
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
		failure = fmt.Errorf("%s: %w", g.actors[first].name, cmp.Or(errs[first], errors.New("returned unexpectedly")))
		g.log.ErrorContext(ctx, "an actor failed, stopping", "actor", g.actors[first].name, "error", failure)
	}
	for i := len(g.actors) - 1; i >= 0; i-- {
		cancels[i]()
		select {
		case <-done[i]:
			if i != first && errs[i] != nil && !errors.Is(errs[i], context.Canceled) {
				g.log.ErrorContext(ctx, "an actor failed while stopping", "actor", g.actors[i].name, "error", errs[i])
				failure = errors.Join(failure, fmt.Errorf("%s: %w", g.actors[i].name, errs[i]))
			}
		case <-time.After(stopTimeout(g.actors[i].run)):
			timeout := stopTimeout(g.actors[i].run)
			g.log.ErrorContext(ctx, "an actor did not stop in time", "actor", g.actors[i].name, "timeout", timeout)
			failure = errors.Join(failure, fmt.Errorf("%s did not stop within %s", g.actors[i].name, timeout))
		}
	}
	return failure
}

// Close calls the deferred functions. Use it instead of Run if starting the process fails.
func (g *Group) Close() {
	for i := len(g.closes) - 1; i >= 0; i-- {
		g.closes[i].close()
	}
	g.closes = nil
}

// safely runs an actor and returns a panic as an error, so that the other actors are still stopped in order.
func safely(ctx context.Context, a Actor) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return a.Run(ctx)
}
