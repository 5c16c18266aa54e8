package servicetest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/identity"
)

const tokenTTL = time.Hour

// Answer is a response of the service. Its methods fail the test if the response is not as expected.
type Answer struct {
	t      testing.TB
	Status int
	Header http.Header
	Body   string
}

// Do sends a request and returns the response. A caller with a Token sends that token, a caller without a role sends none, and any
// other caller sends one that World signs. header is name, value, …; the content type is JSON unless header sets it.
func (w *World) Do(as identity.Caller, method, path, body string, header ...string) Answer {
	w.T.Helper()
	return w.Send(as, method, path, strings.NewReader(body), header...)
}

// Get is Do for a GET.
func (w *World) Get(as identity.Caller, path string, header ...string) Answer {
	w.T.Helper()
	return w.Do(as, http.MethodGet, path, "", header...)
}

// Send is Do with a body from a reader.
func (w *World) Send(as identity.Caller, method, path string, body io.Reader, header ...string) Answer {
	w.T.Helper()
	req, err := http.NewRequestWithContext(w.T.Context(), method, w.URL+path, body)
	require.NoError(w.T, err)
	if req.Body != nil && req.Body != http.NoBody {
		req.Header.Set("Content-Type", "application/json")
	}
	if as.Token == "" && as.Role != "" {
		as.Token = w.Token(as)
	}
	if as.Token != "" {
		req.Header.Set("Authorization", "Bearer "+as.Token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(w.T, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(w.T, err)
	return Answer{t: w.T, Status: res.StatusCode, Header: res.Header, Body: string(raw)}
}

// Token returns an access token for the caller.
func (w *World) Token(as identity.Caller) string {
	w.T.Helper()
	text, err := w.Signer.Sign(as, tokenTTL)
	require.NoError(w.T, err)
	return text
}

// Is requires the status.
func (a Answer) Is(status int) Answer {
	a.t.Helper()
	require.Equal(a.t, status, a.Status, a.Body)
	return a
}

// Fails requires an error with the status and code, in the format of all errors.
func (a Answer) Fails(status int, code string) Answer {
	a.t.Helper()
	a.Is(status)
	object := a.Object()
	require.Equal(a.t, code, object["code"])
	require.NotEmpty(a.t, object["request_id"])
	detail, ok := object["detail"].(string)
	require.True(a.t, ok, "detail is one text: %s", a.Body)
	require.NotEmpty(a.t, detail)
	return a
}

// Wrong requires a 422 and returns the names of the invalid fields, in the order of the response.
func (a Answer) Wrong() (names []string) {
	a.t.Helper()
	a.Fails(http.StatusUnprocessableEntity, "validation_error")
	var body struct{ Errors []struct{ Loc []any } }
	require.NoError(a.t, json.Unmarshal([]byte(a.Body), &body), a.Body)
	for _, e := range body.Errors {
		name, _ := e.Loc[len(e.Loc)-1].(string)
		names = append(names, name)
	}
	return names
}

// Object returns the body as a JSON object.
func (a Answer) Object() map[string]any {
	a.t.Helper()
	var object map[string]any
	require.NoError(a.t, json.Unmarshal([]byte(a.Body), &object), a.Body)
	return object
}

// Text returns a member of the body, or "" if it is not a text.
func (a Answer) Text(name string) string {
	a.t.Helper()
	text, _ := a.Object()[name].(string)
	return text
}

// IDs returns the ids of the objects in a list.
func (a Answer) IDs() []string {
	a.t.Helper()
	var list []struct{ ID string }
	require.NoError(a.t, json.Unmarshal([]byte(a.Body), &list), a.Body)
	ids := []string{}
	for _, item := range list {
		ids = append(ids, item.ID)
	}
	return ids
}

// Next returns the path of the next page of a list, or "" on the last page.
func (a Answer) Next() string {
	a.t.Helper()
	target, relation, _ := strings.Cut(a.Header.Get("Link"), ">")
	if target == "" {
		return ""
	}
	require.Contains(a.t, relation, `rel="next"`)
	return strings.TrimPrefix(target, "<")
}
