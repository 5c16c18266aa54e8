// Package speech transcribes speech and finds insights with any provider that offers OpenAI's API. It converts a provider's
// errors to faults with the codes of a failed call: their kind says whether they are transient, and their text is safe to show.
// It refuses responses that do not match their schema, to treat a transcript as instructions, and calls inside a database
// transaction.
package speech

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sashabaranov/go-openai"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/network"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/libs/text"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// Provider says where an API is.
type Provider struct {
	BaseURL     string // with /v1; OpenAI's if empty
	Key         conf.Secret
	Model       string
	Concurrency int  // requests at the same time; a default if 0
	Proxy       bool // the API passes requests on to OpenAI, whose prices apply
	// Observe is called after each request, with what it used if there was an answer. It may be nil.
	Observe func(ctx context.Context, took time.Duration, u call.Usage, err error)
}

// maxAnswer is the maximum of a response that is read, in bytes: the transcript of a whole day has less than a megabyte.
const maxAnswer = 16 << 20

// endpoint sends the requests of one kind to a provider.
type endpoint struct {
	client  *openai.Client
	model   string
	can     capability
	limiter *limiter
	clock   clock.Clock

	observe func(ctx context.Context, took time.Duration, u call.Usage, err error)
}

func newEndpoint(p Provider, clk clock.Clock, tel telemetry.Set) *endpoint {
	can := capabilityOf(p.Model)
	can.priced = can.priced && (p.official() || strings.HasPrefix(p.Model, "offline-"))
	if p.Observe == nil {
		p.Observe = func(context.Context, time.Duration, call.Usage, error) {}
	}
	return &endpoint{client: client(p, tel), model: p.Model, can: can, limiter: newLimiter(p.Concurrency, clk), clock: clk, observe: p.Observe}
}

// Model returns the configured model.
func (e *endpoint) Model() string { return cleanModel("", e.model) }

// Ready fails with Limited while no requests are sent.
func (e *endpoint) Ready() error { return e.limiter.paused() }

// OutOfQuota reports whether no requests are sent because the account at the provider is used up.
func (e *endpoint) OutOfQuota() bool { return e.limiter.outOfQuota() }

// exchange sends one request, and returns the response as it was received. seconds is the length of its audio.
func (e *endpoint) exchange(ctx context.Context, timeout time.Duration, key string, seconds float64, send func(context.Context) error) (call.Answer, error) {
	if err := network.Check(ctx); err != nil {
		return call.Answer{}, err
	}
	release, err := e.limiter.acquire(ctx)
	if err != nil {
		return call.Answer{}, err
	}
	x, took := &exchange{key: key}, clock.Stopwatch()
	sending, cancel := context.WithTimeout(context.WithValue(ctx, exchangeKey{}, x), timeout)
	defer cancel()
	err = send(sending)
	if x.body != nil {
		release(nil) // whatever it is: Read decides
		answer := e.answer(x.body, seconds)
		e.observe(ctx, took(), answer.Usage, nil)
		return answer, nil
	}
	err = classify(ctx, err, x, e.clock)
	release(err)
	e.observe(ctx, took(), call.Usage{}, err)
	return call.Answer{}, err
}

// answer reads what a response cost, as far as it says so.
func (e *endpoint) answer(body []byte, seconds float64) call.Answer {
	var got struct {
		Model string `json:"model"`
		Usage struct {
			Seconds          float64 `json:"seconds"`
			InputTokens      int64   `json:"input_tokens"`
			OutputTokens     int64   `json:"output_tokens"`
			PromptTokens     int64   `json:"prompt_tokens"`
			CompletionTokens int64   `json:"completion_tokens"`
		} `json:"usage"`
	}
	_ = json.Unmarshal(body, &got) // what is not there is 0
	usage := call.Usage{
		Seconds:      max(seconds, got.Usage.Seconds),
		InputTokens:  max(0, got.Usage.InputTokens, got.Usage.PromptTokens),
		OutputTokens: max(0, got.Usage.OutputTokens, got.Usage.CompletionTokens),
	}
	usage.CostUSD = e.can.cost(usage.Seconds, usage.InputTokens, usage.OutputTokens)
	return call.Answer{Body: body, Model: e.Model(), Usage: usage}
}

func client(p Provider, tel telemetry.Set) *openai.Client {
	cfg := openai.DefaultConfig(p.Key.Reveal())
	if p.BaseURL != "" {
		cfg.BaseURL = strings.TrimRight(p.BaseURL, "/")
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	cfg.HTTPClient = &http.Client{
		// A redirect would send the recording and the key to another server.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &observer{tel: tel, next: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
		}},
	}
	return openai.NewClientWithConfig(cfg)
}

// observer records a span for each request, limits the size of the response, and keeps what go-openai drops.
type observer struct {
	tel  telemetry.Set
	next http.RoundTripper
}

type exchangeKey struct{}

// exchange is what go-openai does not pass on.
type exchange struct {
	key        string      // for the header Idempotency-Key
	retryAfter string      // header of the response
	body       []byte      // of a successful response
	sent       atomic.Bool // the provider may have received the request
}

func (o *observer) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, span := o.tel.Tracer().Start(r.Context(), "provider "+r.Method+" "+r.URL.Path, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("server.address", r.URL.Hostname())))
	defer span.End()
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		x = &exchange{}
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { x.sent.Store(true) }})
	r = r.Clone(ctx)
	r.GetBody = nil // net/http would send a request with an Idempotency-Key twice by itself
	if x.key != "" {
		r.Header.Set("Idempotency-Key", x.key)
	}
	res, err := o.next.RoundTrip(r)
	if err != nil {
		span.SetStatus(codes.Error, "no answer")
		return nil, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", res.StatusCode))
	if res.StatusCode >= http.StatusBadRequest {
		span.SetStatus(codes.Error, res.Status)
	}
	x.retryAfter = res.Header.Get("Retry-After")
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	_ = res.Body.Close()
	if err != nil {
		return nil, err // cut off
	}
	if res.StatusCode >= http.StatusOK && res.StatusCode < http.StatusMultipleChoices {
		x.body = body
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// improper is the fault of a successful response that is none of the API.
func improper(cause error) error {
	return fault.Wrap(redacted(cause), fault.Unavailable, call.CodeUnavailable, "The AI provider does not answer properly right now")
}

// classify converts an error of go-openai to a fault. The codes are those of
// https://platform.openai.com/docs/guides/error-codes, which compatible providers approximately follow.
func classify(ctx context.Context, err error, x *exchange, clk clock.Clock) error {
	retryAfter := x.retryAfter
	if cause := ctx.Err(); errors.Is(cause, context.Canceled) {
		return cause
	}
	status, code, message := details(err)
	var timeout net.Error
	late := status == 0 && (errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout())
	err = redacted(err)
	if status == 0 && x.sent.Load() {
		err = fmt.Errorf("%w: %w", call.ErrNoAnswer, err)
	}
	switch {
	case late, status == http.StatusRequestTimeout, status == http.StatusGatewayTimeout:
		return fault.Wrap(err, fault.Timeout, call.CodeTimeout, "The AI provider did not answer in time").After(wait(retryAfter, clk))
	case status == http.StatusServiceUnavailable && code == call.CodeUnavailable:
		// Only our own offline server responds with this; its message says what must be installed. A retry does not help.
		return fault.Wrap(err, fault.Conflict, call.CodeUnavailable, cleanMessage(message))
	case code == "insufficient_quota":
		return fault.Wrap(err, fault.Limited, call.CodeQuota, "The account at the AI provider is used up: check its plan and billing").After(quotaPause)
	case status == http.StatusTooManyRequests:
		return fault.Wrap(err, fault.Limited, call.CodeUnavailable, "The AI provider takes no more requests right now").After(wait(retryAfter, clk))
	case status == 0, status < http.StatusMultipleChoices, status == http.StatusConflict, status >= http.StatusInternalServerError:
		return fault.Wrap(err, fault.Unavailable, call.CodeUnavailable, "The AI provider does not answer properly right now").After(wait(retryAfter, clk))
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fault.Wrap(err, fault.Conflict, call.CodeRejected, "The AI provider refuses the API key: check OPENAI_API_KEY, TRANSCRIBE_API_KEY and CHAT_API_KEY")
	case status == http.StatusNotFound:
		return fault.Wrap(err, fault.Conflict, call.CodeRejected, "The AI provider does not know the model or the address: check TRANSCRIBE_MODEL, CHAT_MODEL and the base URLs")
	default:
		return fault.Wrap(err, fault.Conflict, call.CodeRejected, "The AI provider refuses this request")
	}
}

// details returns the HTTP status, the provider's code and its message. The status is 0 without a valid response.
func details(err error) (status int, code, message string) {
	var api *openai.APIError
	if errors.As(err, &api) {
		code, _ = api.Code.(string)
		if code == "" {
			code = api.Type
		}
		return api.HTTPStatusCode, code, api.Message
	}
	var request *openai.RequestError
	if errors.As(err, &request) {
		return request.HTTPStatusCode, "", ""
	}
	return 0, "", ""
}

// redacted removes a provider's response from an error: go-openai quotes bodies, which may quote the transcript.
func redacted(err error) error {
	status, code, _ := details(err)
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case status != 0:
		return fmt.Errorf("status %d, code %q", status, text.First(text.Name(code), 60))
	case errors.As(err, &syntax), errors.As(err, &typ):
		return errors.New("the answer is not the JSON of the API")
	default:
		return err
	}
}

// wait parses Retry-After, which is seconds or a time (RFC 9110 section 10.2.3). It returns 0 without one.
func wait(header string, clk clock.Clock) time.Duration {
	if seconds, err := strconv.ParseFloat(header, 64); err == nil && seconds > 0 && seconds < 1e6 {
		return time.Duration(seconds * float64(time.Second))
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, at.Sub(clk.Now()))
	}
	return 0
}
