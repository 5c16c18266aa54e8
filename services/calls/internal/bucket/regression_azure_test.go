package bucket_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/bucket"
)

// An upload that Azure refused, that was cut or too large once ended in a panic: the client got a 500. The library also has a data race
// when an upload is cut, which the race detector would find here.
func TestAnUploadThatAzureRefusesIsNoPanic(t *testing.T) {
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(storage.Close)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint="+storage.URL+"/a;")
	b, err := bucket.Open(t.Context(), "azblob://recordings", limit, func([]byte) (string, bool) { return "audio/test", true })
	require.NoError(t, err)
	t.Cleanup(b.Close)

	_, err = b.Store(t.Context(), "2026/11/x", bytes.NewReader(make([]byte, 10)))
	require.True(t, fault.Is(err, fault.Unavailable), "%v", err)
}
