package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/bench/internal/load"
	"github.com/convoflow/convoflow/bench/internal/process"
)

const (
	startPatience = 30 * time.Second
	pollInterval  = 50 * time.Millisecond
)

// cleanup is what has to end after a benchmark.
type cleanup struct{ steps []func() error }

func (c *cleanup) add(step func() error) { c.steps = append(c.steps, step) }

// close ends everything, the last first.
func (c *cleanup) close() (err error) {
	for i := len(c.steps) - 1; i >= 0; i-- {
		err = errors.Join(err, c.steps[i]())
	}
	c.steps = nil
	return err
}

// startBroker starts a broker in memory, with the one topic that auth writes and the gateway reads, and returns its address.
func (c *cleanup) startBroker() (addr string, err error) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(6, events.AgentsTopic))
	if err != nil {
		return "", fmt.Errorf("start a broker: %w", err)
	}
	c.add(func() error { broker.Close(); return nil })
	return broker.ListenAddrs()[0], nil
}

// serve serves handler on loopback and returns the URL.
func (c *cleanup) serve(handler http.Handler) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: startPatience}
	go func() { _ = server.Serve(l) }() // ends with an error that says that it was closed
	c.add(server.Close)
	return "http://" + l.Addr().String(), nil
}

// await tries until it works, and gives up after startPatience or when p has ended.
func await(ctx context.Context, p *process.Process, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		if dead := p.Alive(); dead != nil {
			return dead
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// ask sends a GET request once.
func ask(ctx context.Context, t load.Target) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("build the request: %w", err)
	}
	if t.Token != "" {
		request.Header.Set("Authorization", "Bearer "+t.Token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("send the request: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}
