package guard

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/convoflow/convoflow/libs/fault"
)

// Limit passes requests with a body of at most maxBody bytes to next. A larger Content-Length is refused at once. Reading a
// chunked body beyond the limit fails with the same TooLarge fault.
func Limit(maxBody int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > maxBody {
			refuse(w, r, tooLarge(maxBody))
			return
		}
		if r.ContentLength != 0 {
			r.Body = limited{http.MaxBytesReader(w, r.Body, maxBody)}
		}
		next.ServeHTTP(w, r)
	})
}

type limited struct{ io.ReadCloser }

func (l limited) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		err = tooLarge(over.Limit)
	}
	return n, err
}

func tooLarge(maxBody int64) error {
	return fault.New(fault.TooLarge, "body_too_large", fmt.Sprintf("The body is over %d bytes", maxBody))
}
