package pabbly_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/test/fake/pabbly"
	"github.com/convoflow/convoflow/test/fake/script"
)

const (
	completed = "transcription.completed"
	scheduled = "followup.scheduled"
	good      = `{"action_items":["call"],"action_items_text":"call","client_name":null,"event":"transcription.completed","event_id":"e1","is_test":false,"timestamp":"2026-01-02T10:00:00Z"}`
)

func encodedSecret() string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of thirty-two characters"))
}

func TestAValidDeliveryIsAcceptedAndStored(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]string{"encoded": encodedSecret(), "raw": "plain secret, not base64"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receiver := pabbly.Start(t, secret)
			response, body := deliver(t, receiver.URL(), signed(t, secret, good))
			require.Equal(t, http.StatusOK, response.StatusCode)
			require.JSONEq(t, `{"status":"success","message":"Webhook data received successfully"}`, body)

			d := receiver.WaitFor(t, completed, 1)[0]
			require.True(t, bytes.Equal([]byte(good), d.Body), "byte for byte")
			require.Equal(t, "e1", d.EventID)
			require.NotEmpty(t, d.Header.Get("traceparent"))
			require.WithinDuration(t, clock.System{}.Now(), d.Time, time.Minute)
			require.Empty(t, d.Problems)
			receiver.RequireValid(t)
		})
	}
}

func TestTheStandardProfileIsKnown(t *testing.T) {
	t.Parallel()
	receiver := pabbly.Start(t, encodedSecret())
	deliver(t, receiver.URL(), signed(t, encodedSecret(), `{"data":{"a":{"b":1}},"timestamp":"2026-01-02T10:00:00Z","type":"transcription.completed"}`))
	require.Equal(t, "msg_1", receiver.Deliveries()[0].EventID)
	receiver.RequireValid(t)
}

func TestEachBreachOfTheContractIsNamed(t *testing.T) {
	t.Parallel()
	secret := encodedSecret()
	header := func(name, value string) func(*message) { return func(m *message) { m.header.Set(name, value) } }
	for name, c := range map[string]struct {
		body   string
		change func(*message)
		want   string
	}{
		"body changed":      {good, func(m *message) { m.body = strings.Replace(m.body, "call", "ball", 2) }, "X-Pabbly-Signature"},
		"hex signature":     {good, header("X-Pabbly-Signature", strings.Repeat("0", 64)), "X-Pabbly-Signature"},
		"base64 signature":  {good, header("Webhook-Signature", "v1,AAAA"), "no v1 signature"},
		"other version":     {good, func(m *message) { m.replace("Webhook-Signature", "v1,", "v2,") }, "no v1 signature"},
		"another id":        {good, header("Webhook-Id", "msg_2"), "no v1 signature"},
		"no id":             {good, header("Webhook-Id", ""), "webhook-id"},
		"no timestamp":      {good, header("Webhook-Timestamp", ""), "webhook-timestamp"},
		"old timestamp":     {good, header("Webhook-Timestamp", "1700000000"), "webhook-timestamp is"},
		"content type":      {good, header("Content-Type", "text/plain"), "Content-Type"},
		"user agent":        {good, header("User-Agent", "curl"), "User-Agent"},
		"no trace":          {good, header("Traceparent", ""), "traceparent"},
		"event disagrees":   {good, header("X-Pabbly-Event", scheduled), "event is"},
		"spaces":            {strings.Replace(good, ":", ": ", 1), nil, "spaces"},
		"trailing newline":  {good + "\n", nil, "spaces"},
		"keys not sorted":   {strings.Replace(good, `"event":"transcription.completed","event_id":"e1"`, `"event_id":"e1","event":"transcription.completed"`, 1), nil, "key event comes after event_id"},
		"key twice":         {strings.Replace(good, `"is_test":false`, `"is_test":false,"is_test":false`, 1), nil, "key is_test comes after is_test"},
		"nested":            {strings.Replace(good, `"client_name":null`, `"client_name":{"a":1}`, 1), nil, "client_name is an object"},
		"array of objects":  {strings.Replace(good, `["call"]`, `[{"a":1}]`, 1), nil, "more than scalars"},
		"array, not text":   {strings.Replace(good, `"action_items_text":"call",`, ``, 1), nil, "no action_items_text"},
		"no event id":       {strings.Replace(good, `"event_id":"e1",`, ``, 1), nil, "event_id is missing"},
		"too large":         {strings.Replace(good, `"call",`, `"`+strings.Repeat("x", 20_000)+`",`, 1), nil, "bytes"},
		"not JSON":          {"name=Maria", nil, "not a JSON object"},
		"standard with key": {`{"data":{},"extra":1,"timestamp":"","type":"transcription.completed"}`, nil, "keys are"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receiver := pabbly.Start(t, secret)
			m := signed(t, secret, c.body)
			if c.change != nil {
				c.change(&m)
			}
			response, _ := deliver(t, receiver.URL(), m)
			require.Equal(t, http.StatusOK, response.StatusCode, "Pabbly accepts anything")
			require.Contains(t, strings.Join(receiver.Deliveries()[0].Problems, "; "), c.want)
		})
	}
}

func TestKeysAndIDsMustNotChange(t *testing.T) {
	t.Parallel()
	receiver := pabbly.Start(t, encodedSecret())
	deliver(t, receiver.URL(), signed(t, encodedSecret(), good))
	deliver(t, receiver.URL(), signed(t, encodedSecret(), strings.Replace(good, `"client_name":null,`, "", 1)))
	other := signed(t, "", good)
	other.header.Set("webhook-id", "msg_2")
	receiver.SetSecret("")
	deliver(t, receiver.URL(), other)

	all := receiver.Deliveries()
	require.Empty(t, all[0].Problems)
	require.Contains(t, all[1].Problems[0], "were")
	require.Contains(t, all[2].Problems[0], "earlier attempt")
	require.Len(t, receiver.ByEventID()["e1"], 3)
}

func TestOneOfTwoSignaturesIsEnoughDuringARotation(t *testing.T) {
	t.Parallel()
	receiver := pabbly.Start(t, "old")
	m, old := signed(t, "new", good), signed(t, "old", good)
	m.header.Set("X-Pabbly-Signature", old.header.Get("X-Pabbly-Signature"))
	m.header.Set("webhook-signature", m.header.Get("webhook-signature")+" "+old.header.Get("webhook-signature"))
	deliver(t, receiver.URL(), m)
	receiver.RequireValid(t)
	receiver.SetSecret("new")
	deliver(t, receiver.URL(), signed(t, "new", good))
	receiver.RequireValid(t)
}

func TestOnlyPostsToTheSecretPathAreDeliveries(t *testing.T) {
	t.Parallel()
	receiver := pabbly.Start(t, "")
	response, _ := deliver(t, receiver.URL()+"x", signed(t, "", good))
	require.Equal(t, http.StatusNotFound, response.StatusCode)
	response, err := http.Get(receiver.URL())
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)
	require.Empty(t, receiver.Deliveries())
}

func TestScriptsAreByEvent(t *testing.T) {
	t.Parallel()
	receiver := pabbly.Start(t, "")
	receiver.Script(scheduled, pabbly.Status(http.StatusGone, ""))
	receiver.Script(pabbly.Any, pabbly.Status(http.StatusTooManyRequests, "7"))
	response, _ := deliver(t, receiver.URL(), signed(t, "", good))
	require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
	require.Equal(t, "7", response.Header.Get("Retry-After"))
	m := signed(t, "", good)
	m.header.Set("X-Pabbly-Event", scheduled)
	response, _ = deliver(t, receiver.URL(), m)
	require.Equal(t, http.StatusGone, response.StatusCode)
	response, _ = deliver(t, receiver.URL(), m)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Len(t, receiver.WaitFor(t, scheduled, 2), 2)
	require.Len(t, receiver.WaitFor(t, pabbly.Any, 3), 3)
	soon, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := receiver.Wait(soon, scheduled, 3)
	require.ErrorIs(t, err, context.Canceled)
}

func TestADeliveryCanBeHeld(t *testing.T) {
	t.Parallel()
	receiver := pabbly.Start(t, "")
	gate := receiver.Block(completed)
	answered := make(chan error, 1)
	request := signed(t, "", good)
	go func() { answered <- try(t.Context(), receiver.URL(), request) }()
	gate.Wait(t)
	require.Len(t, receiver.WaitFor(t, completed, 1), 1, "it has arrived")
	require.Empty(t, answered, "but is not answered")
	gate.Release()
	require.NoError(t, <-answered)
}

func TestMisbehaviourAsAClientSeesIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		step   script.Step
		leaves bool // whether the client disconnects after its request has arrived
		want   error
	}{
		"hang":        {script.Hang, true, context.Canceled},
		"slow loris":  {script.SlowLoris(time.Millisecond), true, context.Canceled},
		"endless":     {script.EndlessBody, true, context.Canceled},
		"cut body":    {script.TruncateBody, false, io.ErrUnexpectedEOF},
		"redirection": {script.Redirect("http://127.0.0.1:1/"), false, errRedirected},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receiver := pabbly.Start(t, "")
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			receiver.Script(completed, func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
				if c.leaves {
					time.AfterFunc(200*time.Millisecond, leave)
				}
				c.step(w, r, answer)
			})
			require.ErrorIs(t, try(ctx, receiver.URL(), signed(t, "", good)), c.want)
			require.NoError(t, try(t.Context(), receiver.URL(), signed(t, "", good)))
		})
	}
}

func TestItServesWithoutStart(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	receiver := pabbly.New("", clock.At(now))
	url := script.Start(t, receiver)
	deliver(t, url+receiver.Path(), signed(t, "", good))
	require.Equal(t, now, receiver.Deliveries()[0].Time)
	require.Empty(t, receiver.URL())
}

type message struct {
	header http.Header
	body   string
}

func (m *message) replace(name, old, text string) {
	m.header.Set(name, strings.Replace(m.header.Get(name), old, text, 1))
}

// signed returns a delivery like the product's; the reference library of Standard Webhooks signs it.
func signed(t *testing.T, secret, body string) message {
	webhook, err := standardwebhooks.NewWebhookRaw([]byte(secret))
	if strings.HasPrefix(secret, "whsec_") {
		webhook, err = standardwebhooks.NewWebhook(secret)
	}
	require.NoError(t, err)
	now := clock.System{}.Now()
	signature, err := webhook.Sign("msg_1", now, []byte(body))
	require.NoError(t, err)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "Convoflow/1.0.0")
	h.Set("X-Pabbly-Event", completed)
	h.Set("X-Pabbly-Signature", hex.EncodeToString(mac.Sum(nil)))
	h.Set("webhook-id", "msg_1")
	h.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	h.Set("webhook-signature", signature)
	h.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	return message{h, body}
}

func deliver(t *testing.T, url string, m message) (*http.Response, string) {
	t.Helper()
	response, body, err := send(t.Context(), url, m)
	require.NoError(t, err)
	return response, body
}

func try(ctx context.Context, url string, m message) error {
	_, _, err := send(ctx, url, m)
	return err
}

var errRedirected = errors.New("redirected")

func send(ctx context.Context, url string, m message) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(m.body))
	if err != nil {
		return nil, "", err
	}
	r.Header = m.header
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirected }}
	response, err := client.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}
