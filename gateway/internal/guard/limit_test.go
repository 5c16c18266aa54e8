package guard

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABodyUpToTheLimitPasses(t *testing.T) {
	t.Parallel()
	var read int
	limited := Limit(4, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		read = len(raw)
		if err != nil {
			require.ErrorContains(t, err, "body_too_large")
		}
	}))
	for body, status := range map[string]int{"": 200, "four": 200, "five!": 413} {
		w := httptest.NewRecorder()
		limited.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		require.Equal(t, status, w.Code, body)
	}
	chunked := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader("five!")))
	require.EqualValues(t, -1, chunked.ContentLength)
	limited.ServeHTTP(httptest.NewRecorder(), chunked)
	require.Equal(t, 4, read)
}
