package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/bench/internal/report"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/outbox"
)

const (
	healthyEndpoints = 9
	hangingBacklog   = 10_000 // deliveries that are due to the endpoint that hangs
	hangingPath      = "/hangs"
)

// endpoints is notify with nine endpoints that answer at once, and one that hangs.
type endpoints struct {
	sender
	from    *bus.Kafka
	agentID string
	gate    atomic.Pointer[chan struct{}] // requests to the endpoint that hangs wait for it
	hung    chan struct{}                 // there is such a request
	mu      sync.Mutex
	waiting map[string]*sync.WaitGroup // by the id of an event: the endpoints that have not received it
}

// hangingEndpoint compares the p99 of an event's way from Kafka to all of nine endpoints while a tenth hangs, for which 10,000 deliveries are
// due, with that without.
func hangingEndpoint(ctx context.Context, b *bench) (result report.Result, err error) {
	b.printf("hanging: p99 from an event in Kafka to %d endpoints while another one hangs ÷ while none does", healthyEndpoints)
	result = report.Result{Name: "hanging", Peer: "none hangs", Unit: "µs", Floor: 1.3, Goal: 1.05}
	shared := *b
	shared.layout = newLayout(1)
	e := &endpoints{agentID: event.NewID(), hung: make(chan struct{}, 1), waiting: map[string]*sync.WaitGroup{}}
	defer func() { err = errors.Join(err, e.close()) }()
	if err := e.open(ctx, &shared, e.receive); err != nil {
		return result, err
	}
	if err := e.create(ctx); err != nil {
		return result, err
	}
	parts := []part{{"notify", e.notify}, {"PostgreSQL", e.postgres}}
	measure := func(into *report.Measure) (err error) {
		*into, err = timed(parts, b.Length, p99, func() (time.Duration, error) { return e.deliver(ctx) })
		return err
	}
	return b.rounds(ctx, result, func(oursFirst bool) (round report.Round, err error) {
		err = alternate(oursFirst, func() error {
			return e.hanging(ctx, func() error { return measure(&round.Ours) })
		}, func() error { return measure(&round.Peer) })
		round.Ratio = round.Ours.Value / round.Peer.Value
		return round, err
	})
}

// receive is the receiver of all endpoints.
func (e *endpoints) receive(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if r.URL.Path == hangingPath {
		select {
		case e.hung <- struct{}{}:
		default:
		}
		if gate := e.gate.Load(); gate != nil {
			<-*gate
		}
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if left := e.waiting[r.Header.Get("webhook-id")]; left != nil {
		left.Done()
	}
}

// create makes the endpoints beside that of the environment, and makes the agent of the events known.
func (e *endpoints) create(ctx context.Context) error {
	token, err := e.issuer.AdminToken(event.NewID())
	if err != nil {
		return err
	}
	for i := range healthyEndpoints {
		body := fmt.Sprintf(`{"url":"%s/healthy-%d","events":["transcription.completed"]}`, e.target, i)
		if i == 0 { // the environment's is the ninth
			body = fmt.Sprintf(`{"url":"%s%s","events":["lead.converted"]}`, e.target, hangingPath)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.notify.url+"/webhooks", strings.NewReader(body))
		if err != nil {
			return fmt.Errorf("build a request: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return fmt.Errorf("create an endpoint: %w", err)
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusCreated {
			return fmt.Errorf("create an endpoint: %d %s", res.StatusCode, text)
		}
	}
	cfg := bus.Defaults()
	cfg.Brokers = []string{e.broker}
	if e.from, err = bus.Connect(cfg, "bench", events.Topics()); err != nil {
		return err
	}
	e.add(func() error { e.from.Close(); return nil })
	agent := newAgent(0)
	agent.AgentID = e.agentID
	if _, err := e.from.Publish(ctx, events.AgentsTopic, []outbox.Message{{Event: events.AgentRegistered.New(clock.System{}.Now(), agent)}}); err != nil {
		return fmt.Errorf("publish an agent: %w", err)
	}
	for range 20 { // until notify has joined its groups and knows the agent
		if _, err := e.deliver(ctx); err != nil {
			return err
		}
	}
	return nil
}

// deliver publishes an event, and returns after what time all healthy endpoints have received it.
func (e *endpoints) deliver(ctx context.Context) (time.Duration, error) {
	now := clock.System{}.Now()
	completed := events.TranscriptionCompleted.New(now, events.Call{CallID: event.NewID(), Version: 1, AgentID: e.agentID, CallType: "default", Status: "completed", CreatedAt: now, UpdatedAt: now})
	var left sync.WaitGroup
	left.Add(healthyEndpoints)
	e.mu.Lock()
	e.waiting[completed.ID] = &left
	e.mu.Unlock()
	took := clock.Stopwatch()
	if _, err := e.from.Publish(ctx, completed.Topic, []outbox.Message{{Event: completed}}); err != nil {
		return 0, fmt.Errorf("publish an event: %w", err)
	}
	received := make(chan struct{})
	go func() { left.Wait(); close(received) }()
	select {
	case <-received:
	case <-time.After(startTimeout + 30*time.Second): // copies are waited for
		return 0, fmt.Errorf("an event did not arrive at %d endpoints", healthyEndpoints)
	}
	length := took()
	e.mu.Lock()
	delete(e.waiting, completed.ID)
	e.mu.Unlock()
	return length, nil
}

// hanging runs do while the tenth endpoint hangs, and makes it healthy again.
func (e *endpoints) hanging(ctx context.Context, do func() error) (err error) {
	gate := make(chan struct{})
	e.gate.Store(&gate)
	defer func() {
		_, healed := e.pool.Exec(ctx, `delete from notify.deliveries where event = 'lead.converted'`)
		e.gate.Store(nil)
		close(gate)
		if healed == nil {
			_, healed = e.pool.Exec(ctx, `update notify.endpoints set failures = 0, failing_since = null, next_probe_at = null`)
		}
		err = errors.Join(err, healed)
	}()
	if err := e.insert(ctx, "lead.converted", hangingBacklog, 0); err != nil {
		return err
	}
	select {
	case <-e.hung:
	default:
	}
	select {
	case <-e.hung:
	case <-time.After(startTimeout):
		return errors.New("the endpoint that hangs got no request")
	}
	return do()
}
