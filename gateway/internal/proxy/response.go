package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/libs/run"
)

// cleanResponse removes the headers that the gateway sets itself.
func (u *Upstream) cleanResponse(res *http.Response) error {
	if err := checkResponse(res.Request, res); err != nil {
		if errors.Is(err, errOtherRequest) {
			u.transport.CloseIdleConnections() // a response without a body has already returned its connection
		}
		return err
	}
	for name := range res.Header {
		if isGatewayHeader(name) {
			delete(res.Header, name)
		}
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind == "text/event-stream" {
		res.Body = newEvents(res.Body, run.Draining(res.Request.Context()))
	}
	return nil
}

// events is a stream of server-sent events, which would never end by itself. It ends when the gateway stops: its clients then connect
// to another replica.
type events struct {
	io.ReadCloser
	stopping func() error // of the gateway; nil while it goes on
	stop     func() bool
}

func newEvents(body io.ReadCloser, draining context.Context) events {
	return events{body, draining.Err, context.AfterFunc(draining, func() { _ = body.Close() })}
}

// Read implements io.Reader.
func (e events) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	if err != nil && e.stopping() != nil {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer.
func (e events) Close() error {
	e.stop()
	return e.ReadCloser.Close()
}

// isGatewayHeader reports whether only the gateway may set that response header.
func isGatewayHeader(name string) bool {
	switch name {
	case "Server", "X-Powered-By", "X-Request-Id", rpc.ExchangeIDHeader, "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Content-Security-Policy", "Strict-Transport-Security":
		return true
	}
	return strings.HasPrefix(name, "Access-Control-")
}

// errOtherRequest marks a response that does not have the ids of its request.
var errOtherRequest = errors.New("the response is that of another request")

// checkResponse returns an error for a response that no service of the platform has sent to this request. Its connection must not be
// used again: a service's late response to one request would become the response to the next, which can be another agent's.
func checkResponse(req *http.Request, res *http.Response) error {
	if err := checkShape(res); err != nil {
		return err
	}
	// A service of an earlier release does not return the id of the exchange. Those that know it always do, also in a late response.
	exchange, echoed := req.Header.Get(rpc.ExchangeIDHeader), res.Header.Values(rpc.ExchangeIDHeader)
	isOther := slices.ContainsFunc(echoed, func(id string) bool { return id != exchange })
	if isOther || res.Header.Get(rpc.RequestIDHeader) != req.Header.Get(rpc.RequestIDHeader) {
		return fmt.Errorf("%w: %w", errInvalidResponse, errOtherRequest)
	}
	return nil
}

// checkShape returns an error for an error response that is not JSON: it comes from an intermediary or a bug, and its text
// must not reach a client.
func checkShape(res *http.Response) error {
	if res.StatusCode < http.StatusBadRequest {
		return nil
	}
	mediaType, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if mediaType == "application/json" {
		return nil
	}
	err := fmt.Errorf("%w: %d with %q", errInvalidResponse, res.StatusCode, mediaType)
	switch res.StatusCode {
	case http.StatusServiceUnavailable: // an intermediary has no healthy instance
		return unavailable(err)
	case http.StatusGatewayTimeout:
		return timedOut(err)
	}
	return err
}

// fail writes the error response of a request that could not be sent or got no valid response.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	var refused *fault.Error
	switch {
	case errors.Is(r.Context().Err(), context.Canceled):
		record.ClientLeft(w, err)
	case errors.As(err, &refused):
		if refused.Kind == fault.TooLarge || refused.Kind == fault.Malformed || refused.Kind == fault.RequestTimeout { // part of the body is unread
			w.Header().Set("Connection", "close")
		}
		record.Fail(w, r, refused)
	case isTimeout(err):
		record.Fail(w, r, timedOut(err))
	case errors.Is(err, errInvalidResponse):
		record.Fail(w, r, fault.Wrap(err, fault.BadGateway, "bad_gateway", "A part of the platform answered with something that is no answer, try again").After(retryAfter))
	default:
		record.Fail(w, r, unavailable(err))
	}
}

// errInvalidResponse marks a response that started but is not valid HTTP, or not one that a service sends.
var errInvalidResponse = errors.New("invalid response from the service")

func timedOut(cause error) error {
	return fault.Wrap(cause, fault.Timeout, "timeout", "A part of the platform took too long, try again").After(retryAfter)
}

func unavailable(cause error) error {
	return fault.Wrap(cause, fault.Unavailable, "service_unavailable", "A part of the platform does not answer right now, try again").After(retryAfter)
}

// isTimeout reports whether a service that was reached did not respond in time. A dial timeout is not one: the service is
// down.
func isTimeout(err error) bool {
	var timeout net.Error
	return !isDial(err) && errors.As(err, &timeout) && timeout.Timeout()
}
