package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
)

// part is one part of a form: a file when it has a filename.
type part struct{ name, filename, value string }

func form(t *testing.T, parts ...part) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		if p.filename == "" {
			require.NoError(t, w.WriteField(p.name, p.value))
			continue
		}
		file, err := w.CreateFormFile(p.name, p.filename)
		require.NoError(t, err)
		_, err = io.WriteString(file, p.value)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes(), w.FormDataContentType()
}

func (s service) upload(t *testing.T, key string, parts ...part) *httptest.ResponseRecorder {
	t.Helper()
	body, contentType := form(t, parts...)
	header := with("Content-Type", contentType)
	if key != "" {
		header.Set("Idempotency-Key", key)
	}
	return s.do(t, request{method: "POST", target: "/upload", body: string(body), header: header})
}

func TestAFormIsValidatedLikeJSONAndItsFileIsStored(t *testing.T) {
	t.Parallel()
	file := part{"file", "a.txt", "content"}
	for name, parts := range map[string][]part{
		"the file first": {file, {"name", "", " n "}, {"size", "", "3"}, {"due", "", "2026-11-24 10:00"}, {"unknown", "", "x"}},
		"the file last":  {{"size", "", "3"}, {"due", "", "2026-11-24 10:00"}, {"name", "", "n"}, {"empty", "", ""}, file},
	} {
		s := start(t, memory{})
		w := s.upload(t, "", parts...)
		require.Equal(t, http.StatusAccepted, w.Code, name+w.Body.String())
		require.JSONEq(t, `{"name":"n","size":3,"due":"2026-11-24T10:00:00Z"}`, w.Body.String())
		require.Equal(t, map[string]string{"0 a.txt": "content"}, s.files.stored)
	}
}

func TestEveryInvalidFieldOfAFormIsReportedAndNothingIsStored(t *testing.T) {
	t.Parallel()
	file := part{"file", "a.txt", "content"}
	for name, tt := range map[string]struct {
		parts []part
		want  []string
	}{
		"no file":           {[]part{{"name", "", "n"}}, []string{`missing ["body","file"]`}},
		"two files":         {[]part{file, file}, []string{`too_long ["body","file"]`}},
		"a refused file":    {[]part{{"file", "a", "not a thing"}, {"size", "", "x"}}, []string{`format ["body","file"]`, `int_parsing ["body","size"]`}},
		"fields after it":   {[]part{file, {"size", "", "1.5"}, {"name", "", "123456"}, {"due", "", "soon"}}, []string{`datetime_parsing ["body","due"]`, `string_too_long ["body","name"]`, `int_parsing ["body","size"]`}},
		"a very long field": {[]part{file, {"name", "", strings.Repeat("x", 70_000)}}, []string{`string_too_long ["body","name"]`}},
	} {
		s := start(t, memory{})
		require.Equal(t, tt.want, wrong(t, s.upload(t, "", tt.parts...)), name)
		require.Zero(t, s.files.count(), name)
	}
}

func TestFormsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	whole, contentType := form(t, part{"file", "a.txt", "content"}, part{"name", "", "n"})
	large, largeType := form(t, part{"file", "a.txt", strings.Repeat("x", 3<<20)})
	many := make([]part, 51)
	for i := range many {
		many[i] = part{"x", "", "y"}
	}
	parts, partsType := form(t, many...)
	for name, tt := range map[string]struct {
		body, contentType string
		status            int
		code              string
	}{
		"another type":              {"{}", "application/json", 415, "unsupported_content_type"},
		"no boundary":               {string(whole), "multipart/form-data", 400, "malformed_form"},
		"truncated in the file":     {string(whole[:len(whole)/2]), contentType, 400, "malformed_form"},
		"truncated in a header":     {string(whole[:len(whole)-60]), contentType, 400, "malformed_form"},
		"truncated in the boundary": {string(whole[:len(whole)-10]), contentType, 400, "malformed_form"},
		"too large":                 {string(large), largeType, 413, "file_too_large"},
		"too many parts":            {string(parts), partsType, 400, "too_many_parts"},
		"empty":                     {"", contentType, 400, "malformed_form"},
	} {
		s := start(t, memory{})
		for _, body := range []io.Reader{strings.NewReader(tt.body), io.MultiReader(strings.NewReader(tt.body))} { // with and without a content length
			w := s.do(t, request{method: "POST", target: "/upload", reader: body, header: with("Content-Type", tt.contentType)})
			require.Equal(t, tt.status, w.Code, "%s: %s", name, w.Body)
			require.Contains(t, w.Body.String(), `"code":"`+tt.code+`"`, name)
		}
		require.Zero(t, s.files.count(), name)
	}
	s := start(t, memory{})
	body := string(whole[:len(whole)-2]) // without the last line break
	require.Equal(t, 202, s.do(t, request{method: "POST", target: "/upload", body: body, header: with("Content-Type", contentType)}).Code)
}

func TestARepeatedFormStoresOneFile(t *testing.T) {
	t.Parallel()
	s := start(t, memory{})
	first := s.upload(t, "key", part{"file", "a.txt", "content"}, part{"name", "", "n"})
	require.Equal(t, 202, first.Code)
	again := s.upload(t, "key", part{"name", "", "n"}, part{"file", "b.txt", "content"})
	require.Equal(t, first.Body.String(), again.Body.String(), "regardless of the order of the parts and the file's name")
	require.Equal(t, 1, s.files.count())
	s.upload(t, "key", part{"file", "a.txt", "other content"}, part{"name", "", "n"})
	require.Equal(t, 2, s.files.count(), "the content is part of the fingerprint")
}

func TestAFileStaysOnlyIfItsChangeMayHaveBeenCommitted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"unavailable":    {fault.New(fault.Unavailable, "database_unavailable", "away"), 0},
		"internal":       {errors.New("bug"), 0},
		"timeout":        {context.DeadlineExceeded, 0},
		"refused":        {fault.New(fault.Conflict, "no", "no"), 0},
		"answer is lost": {fault.Wrap(errors.Join(fault.ErrOutcomeUnknown, io.EOF), fault.Unavailable, "database_unavailable", "away"), 1},
	} {
		s := start(t, memory{})
		s.files.fails = c.err
		require.NotEqual(t, 202, s.upload(t, "", part{"file", "a.txt", "content"}, part{"name", "", "n"}).Code, name)
		require.Equal(t, c.want, s.files.count(), name)
	}
}

func TestAFileThatTheMethodDoesNotUseIsRemoved(t *testing.T) {
	t.Parallel()
	s := start(t, memory{})
	s.files.unused = true
	for _, key := range []string{"", "key"} {
		require.Equal(t, 202, s.upload(t, key, part{"file", "a.txt", "content"}, part{"name", "", "n"}).Code)
		require.Zero(t, s.files.count())
	}
}

func TestAFormIsNotReadWhileTheServiceIsNotReady(t *testing.T) {
	t.Parallel()
	s := start(t, memory{})
	s.files.notReady = fault.New(fault.Unavailable, "database_unavailable", "away").After(time.Second)
	w := s.do(t, request{method: "POST", target: "/upload", reader: iotest.ErrReader(errors.New("read")), header: with("Content-Type", "multipart/form-data; boundary=b")})
	require.Equal(t, 503, w.Code, w.Body)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.Zero(t, s.files.count())
}
