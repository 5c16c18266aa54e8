package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// client is a client of the public API.
type client struct {
	base        string
	token       string
	traceparent string
	http        *http.Client
}

func newClient(base, traceparent string) *client {
	return &client{base: strings.TrimRight(base, "/"), traceparent: traceparent, http: &http.Client{Timeout: time.Minute}}
}

// apiError is an error response.
type apiError struct {
	Status    int
	Code      string          `json:"code"`
	Detail    json.RawMessage `json:"detail"`
	RequestID string          `json:"request_id"`
}

func (e *apiError) Error() string {
	return fmt.Sprintf("the platform responded %d %s: %s (request %s)", e.Status, e.Code, e.Detail, e.RequestID)
}

func (c *client) get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, into)
}

func (c *client) post(ctx context.Context, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, path, "application/json", bytes.NewReader(raw), into)
}

func (c *client) form(ctx context.Context, path string, form url.Values, into any) error {
	return c.do(ctx, http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), into)
}

// upload sends a recording. It calls progress with the part of the body that has been sent, 0 to 1.
func (c *client) upload(ctx context.Context, path, name string, recording []byte, fields map[string]string, progress func(float64), into any) error {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for field, value := range fields {
		if err := w.WriteField(field, value); err != nil {
			return err
		}
	}
	part, err := w.CreateFormFile("audio", name)
	if err != nil {
		return err
	}
	if _, err := part.Write(recording); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, path, w.FormDataContentType(), &progressReader{from: &body, total: body.Len(), progress: progress}, into)
}

func (c *client) do(ctx context.Context, method, path, contentType string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	// Other requests, such as asking every half second whether the call is completed, would hide its trace.
	if path == "/calls/upload" || path == "/followups" && method == http.MethodPost {
		req.Header.Set("traceparent", c.traceparent)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Idempotency-Key", rand.Text())
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read the response: %w", err)
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		failed := &apiError{Status: res.StatusCode}
		_ = json.Unmarshal(raw, failed) // a response that is not JSON still has a status
		return failed
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}

// progressReader reports how much of it has been read.
type progressReader struct {
	from     io.Reader
	total    int
	read     int
	progress func(float64)
}

func (w *progressReader) Read(p []byte) (int, error) {
	n, err := w.from.Read(p[:min(len(p), 8<<10)])
	w.read += n
	w.progress(float64(w.read) / float64(w.total))
	return n, err
}

// progressBar returns a function that draws a progress bar on a terminal, and ends the line at 100 %.
func progressBar(out io.Writer) func(float64) {
	const width = 30
	drawn := -1
	return func(part float64) {
		full := int(part * width)
		if full == drawn {
			return
		}
		drawn = full
		_, _ = fmt.Fprintf(out, "\r  uploading  [%s%s] %3.0f %%", strings.Repeat("█", full), strings.Repeat("░", width-full), 100*part)
		if full == width {
			_, _ = fmt.Fprintln(out)
		}
	}
}
