// Package peer calls another service on behalf of a caller. It exists for the one case in which a service cannot wait for an
// event: an object that was created a moment ago, or a query that only the other service can answer. It makes one attempt with a
// short timeout, and has a circuit breaker, so that a service that is down delays only the first few requests. It refuses to
// write and to retry.
package peer

import (
	"bytes"
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
	openFor   = 5 * time.Second // how long the breaker stays open
	tripAfter = 5               // consecutive failures
)

// Client calls one service. It is safe for concurrent use.
type Client struct {
	base    string
	http    *http.Client
	tel     telemetry.Set
	breaker *gobreaker.CircuitBreaker[[]byte]
}

// New returns a client for the service at base, such as http://calls:8080.
func New(name, base string, tel telemetry.Set) *Client { return NewSlow(name, base, timeout, tel) }

// NewSlow returns a client for requests that take longer than others, such as those that wait for an AI provider.
func NewSlow(name, base string, timeout time.Duration, tel telemetry.Set) *Client {
	return &Client{
		base: strings.TrimSuffix(base, "/"),
		http: &http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		tel:  tel,
		breaker: gobreaker.NewCircuitBreaker[[]byte](gobreaker.Settings{
			Name: name, Timeout: openFor,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
			// A refusal by the other service is a valid response, not a failure.
			IsSuccessful: func(err error) bool { return err == nil || !fault.Is(err, fault.Unavailable) },
		}),
	}
}

// Fetch returns a function that reads an object of type T by its id, from path + "/" + id. It fails like Get.
func Fetch[T any](c *Client, path string) func(ctx context.Context, id string) (T, error) {
	return func(ctx context.Context, id string) (object T, err error) {
		err = c.Get(ctx, path+"/"+id, &object)
		return object, err
	}
}

// Get reads an object with the token of ctx's caller. It fails with the other service's fault if that is NotFound or Forbidden,
// with ctx.Err() if ctx ended, with network.ErrInTransaction inside a transaction, and otherwise with an
// Unavailable fault. It takes at most 2 s.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.request(ctx, http.MethodGet, path, nil, into)
}

// Ask sends a query that changes nothing, and is too long or too personal for a path, by POST. It fails like Get.
func (c *Client) Ask(ctx context.Context, path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("marshal the question: %w", err)
	}
	return c.request(ctx, http.MethodPost, path, body, answer)
}

func (c *Client) request(ctx context.Context, method, path string, body []byte, into any) error {
	if err := network.Check(ctx); err != nil {
		return err
	}
	raw, err := c.breaker.Execute(func() ([]byte, error) { return c.send(ctx, method, path, body) })
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

func (c *Client) send(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return nil, err
	}
	target, err := url.JoinPath(c.base, path)
	if err != nil {
		return nil, fmt.Errorf("build the address: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("build the request: %w", err)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+caller.Token)
	req.Header.Set(rpc.RequestIDHeader, rpc.RequestID(ctx))
	for name, value := range c.tel.Inject(ctx) {
		req.Header.Set(name, value)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err() // our own client disconnected, which is no failure of the other service
		}
		return nil, unavailable(err)
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, unavailable(err)
	}
	kinds := map[int]fault.Kind{http.StatusNotFound: fault.NotFound, http.StatusForbidden: fault.Forbidden}
	if kind, ok := kinds[res.StatusCode]; ok {
		var body struct{ Code, Detail string }
		_ = json.Unmarshal(raw, &body) // the kind is enough without a body
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
