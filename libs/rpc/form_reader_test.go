package rpc

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/openapi"
)

// deadlines is a connection that records its read deadlines.
type deadlines struct {
	http.ResponseWriter
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

func TestEachReadOfAFormHasItsOwnDeadline(t *testing.T) {
	t.Parallel()
	d := &deadlines{}
	body := stallReader{io.NopCloser(strings.NewReader("abc")), http.NewResponseController(d)}
	before := clock.Deadline(stallTimeout)
	raw, err := io.ReadAll(body)
	require.NoError(t, err)
	require.Equal(t, "abc", string(raw))
	require.Len(t, d.set, 3, "one for the data, one for the end, and then none")
	for _, at := range d.set[:2] {
		require.False(t, at.Before(before))
		require.False(t, at.After(clock.Deadline(stallTimeout)))
	}
	require.True(t, d.set[2].IsZero(), "the response has no deadline")
}

type upload struct {
	Name string `json:"name"`
	size int
}

const uploads = `{"paths": {"/files": {"post": {"operationId": "files.upload", "x-access": "anyone", "requestBody": {"required": true,
	"content": {"multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": {
		"file": {"type": "string", "format": "binary"}, "name": {"type": "string", "maxLength": 5}}}}}}}}}}`

// uploadForm returns the form of files.upload.
func uploadForm(t testing.TB) form[upload, any] {
	t.Helper()
	operations, err := openapi.Parse([]byte(uploads))
	require.NoError(t, err)
	return form[upload, any]{op: operations["files.upload"], File: File[upload, any]{
		Field: "file", MaxBytes: 1 << 20, TooLarge: fault.New(fault.TooLarge, "file_too_large", "Too large"),
		Ready: func(context.Context) error { return nil },
		Store: func(_ context.Context, req *upload, _ string, content io.Reader) (string, error) {
			n, err := io.Copy(io.Discard, content)
			req.size = int(n)
			return "", err
		},
	}}
}

func post(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/files", strings.NewReader(body))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	x := &exchange{request: r, buffer: NewBudget(DefaultBodyMemory).Buffer(), writer: answerWriter{ResponseWriter: httptest.NewRecorder()}}
	return r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
}

const whole = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nxyz\r\n--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\ndemo\r\n--b--"

func TestATruncatedFormIsRefused(t *testing.T) {
	t.Parallel()
	f := uploadForm(t)
	for _, body := range []string{whole, whole + "\r\n"} {
		req, stored, err := f.read(post(body))
		require.NoError(t, err)
		require.True(t, stored)
		require.Equal(t, upload{Name: "demo", size: 3}, req)
	}
	for at := range len(whole) - 1 {
		_, _, err := f.read(post(whole[:at]))
		require.True(t, fault.Is(err, fault.Malformed), "truncated at %d: %v", at, err)
	}
}

// FuzzForm reads arbitrary bodies as forms. Reading must succeed or fail with a client error.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{whole, whole + "\r\n", whole[:40], whole[:len(whole)-2], "", "--b--", "--b\r\n\r\n"} {
		f.Add(seed)
	}
	form := uploadForm(f)
	f.Fuzz(func(t *testing.T, body string) {
		_, _, err := form.read(post(body))
		if err == nil {
			require.Contains(t, body, "--b--", "a complete form has its last boundary")
			return
		}
		var refused *fault.Error
		require.ErrorAs(t, err, &refused)
		require.Less(t, fault.Status(err), http.StatusInternalServerError)
	})
}
