package bucket_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/bucket"
)

// lateS3 shows an upload only after it was asked that often, as if it had carried out the request that begins it later.
type lateS3 struct {
	mu      sync.Mutex
	looks   int
	showAt  int
	aborted int
}

func (s *lateS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodPost && query.Has("uploads"):
		_, _ = fmt.Fprint(w, `<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>`)
	case r.Method == http.MethodPut:
		w.Header().Set("ETag", `"x"`)
	case r.Method == http.MethodGet && query.Has("uploads"):
		s.looks++
		upload := ""
		if s.looks >= s.showAt && s.aborted == 0 {
			upload = `<Upload><Key>2026/11/x</Key><UploadId>1</UploadId><Initiated>2026-11-26T12:00:00Z</Initiated></Upload>`
		}
		_, _ = fmt.Fprintf(w, `<ListMultipartUploadsResult>%s</ListMultipartUploadsResult>`, upload)
	case r.Method == http.MethodDelete && query.Has("uploadId"):
		s.aborted++
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotImplemented)
	}
}

// What is left of a refused upload is looked for until it is there, and gone.
func TestAnUploadThatS3ShowsLateIsAborted(t *testing.T) {
	s3 := &lateS3{showAt: 3}
	server := httptest.NewServer(s3)
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	const large = 16 << 20 // more has parts
	b, err := bucket.Open(t.Context(), "s3://recordings?region=us-east-1&use_path_style=true&endpoint="+server.URL, large, func([]byte) (string, bool) { return "audio/test", true })
	require.NoError(t, err)
	t.Cleanup(b.Close)
	_, err = b.Store(t.Context(), "2026/11/x", bytes.NewReader(make([]byte, large+1)))
	require.True(t, fault.Is(err, fault.TooLarge), "%v", err)
	require.Equal(t, 1, s3.aborted)
	require.Equal(t, 4, s3.looks, "and once more")
}
