// Package peer asks another service in the name of a caller, for the one case where waiting for an event would show: an
// object that was made a moment ago. One try, a short time-out, and a breaker, so that a service that is down costs
// nothing after the first few requests.
package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/network"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/telemetry"
)

const (
	timeout   = 2 * time.Second
	maxAnswer = 4 << 20         // bytes: a long call with its transcript
	openFor   = 5 * time.Second // after tripping
	tripAfter = 5               // failures in a row
)

// Client asks one service.
type Client struct {
	base    string
	http    *http.Client
	tel     telemetry.Set
	breaker *gobreaker.CircuitBreaker[[]byte]
}

// New makes a client for the service at base, such as http://calls:8080.
func New(name, base string, tel telemetry.Set) *Client {
	return &Client{
		base: strings.TrimRight(base, "/"),
		http: &http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		tel:  tel,
		breaker: gobreaker.NewCircuitBreaker[[]byte](gobreaker.Settings{
			Name: name, Timeout: openFor,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
			// What the other service refuses is an answer, not a failure.
			IsSuccessful: func(err error) bool { return err == nil || !fault.Is(err, fault.Unavailable) },
		}),
	}
}

// Get reads an object that the caller of ctx may see. NotFound, Forbidden and Unauthenticated are the other service's
// faults; anything else that goes wrong is Unavailable. Inside of a transaction it refuses with network.ErrInTransaction.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	if err := network.Check(ctx); err != nil {
		return err
	}
	raw, err := c.breaker.Execute(func() ([]byte, error) { return c.get(ctx, path) })
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return unavailable(err)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return unavailable(fmt.Errorf("read the answer: %w", err))
	}
	return nil
}

func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	target, err := url.JoinPath(c.base, path)
	if err != nil {
		return nil, fmt.Errorf("build the address: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("build the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+caller.Token)
	req.Header.Set(rpc.RequestIDHeader, rpc.RequestID(ctx))
	for name, value := range c.tel.Inject(ctx) {
		req.Header.Set(name, value)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err() // our own client left, which says nothing about the other service
		}
		return nil, unavailable(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, unavailable(err)
	}
	kinds := map[int]fault.Kind{http.StatusNotFound: fault.NotFound, http.StatusForbidden: fault.Forbidden, http.StatusUnauthorized: fault.Unauthenticated}
	if kind, ok := kinds[res.StatusCode]; ok {
		var body struct{ Code, Detail string }
		_ = json.Unmarshal(raw, &body) // without a body the kind says enough
		return nil, fault.New(kind, body.Code, body.Detail)
	}
	if res.StatusCode != http.StatusOK {
		return nil, unavailable(fmt.Errorf("answered %s", res.Status))
	}
	return raw, nil
}

func unavailable(cause error) error {
	return fault.Wrap(cause, fault.Unavailable, "service_unavailable", "A part of the platform does not answer right now, try again").After(2 * time.Second)
}
