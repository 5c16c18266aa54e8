package web

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

const (
	formOverhead = 1 << 20          // bytes of an upload beside the recording
	readBuffer   = 64 << 10         // bytes: package multipart itself reads 4 kB at a time
	stallTime    = 30 * time.Second // without a byte of a body, after which the sender is taken for gone
)

// decodeUpload opens the form of an upload. Nothing of its body has been read when it returns.
func decodeUpload(maxBytes int64) func(*http.Request) (call.UploadRequest, error) {
	return func(r *http.Request) (call.UploadRequest, error) {
		mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || mediaType != "multipart/form-data" {
			return call.UploadRequest{}, fault.New(fault.Unsupported, "unsupported_content_type", "Send Content-Type: multipart/form-data")
		}
		if params["boundary"] == "" {
			return call.UploadRequest{}, fault.New(fault.Malformed, "malformed_form", "The body is not a form: its content type names no boundary")
		}
		if r.ContentLength > maxBytes+formOverhead {
			return call.UploadRequest{}, tooLarge(maxBytes)
		}
		body := http.MaxBytesReader(nil, r.Body, maxBytes+formOverhead)
		parts := multipart.NewReader(bufio.NewReaderSize(io.MultiReader(body, strings.NewReader("\r\n"), cut{}), readBuffer), params["boundary"])
		return call.UploadRequest{Form: &form{parts: parts, maxBytes: maxBytes}, IdempotencyKey: r.Header.Get("Idempotency-Key")}, nil
	}
}

// cut is what follows a body. Package multipart does not tell the end of a body in the middle of a part's header from the
// last boundary, unless it is an error; the line end before it is for senders that leave out the last one.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func tooLarge(maxBytes int64) error {
	return fault.New(fault.TooLarge, "audio_too_large", fmt.Sprintf("The recording is over %d MB", maxBytes>>20))
}

// form is a call.Form.
type form struct {
	parts    *multipart.Reader
	maxBytes int64
}

func (f *form) Next() (call.Part, error) {
	// Raw, because the other one decodes quoted-printable, which a file never is.
	part, err := f.parts.NextRawPart()
	if errors.Is(err, io.EOF) {
		return call.Part{}, io.EOF
	}
	if err != nil {
		return call.Part{}, f.classify(err)
	}
	return call.Part{Name: part.FormName(), Filename: part.FileName(), Content: content{part, f}}, nil
}

func (f *form) classify(err error) error {
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return tooLarge(f.maxBytes)
	}
	// Only its text is kept: the io.ErrUnexpectedEOF in it means something else to whoever reads the part.
	return fault.Wrap(errors.New(err.Error()), fault.Malformed, "malformed_form", "The body is not a form, or ended before it was complete")
}

// content is a part whose errors are faults.
type content struct {
	part *multipart.Part
	form *form
}

func (c content) Read(p []byte) (int, error) {
	n, err := c.part.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.form.classify(err)
	}
	return n, err
}

// cutStalled ends requests whose sender has stopped sending: each read of a body may take stallTime, however long all of
// them take together.
func cutStalled(next http.Handler, clk clock.Clock) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &patient{ReadCloser: r.Body, control: http.NewResponseController(w), clock: clk}
		}
		next.ServeHTTP(w, r)
	})
}

type patient struct {
	io.ReadCloser
	control *http.ResponseController
	clock   clock.Clock
}

func (p *patient) Read(b []byte) (int, error) {
	// A connection without deadlines, as in tests, has none to stall on.
	_ = p.control.SetReadDeadline(p.clock.Now().Add(stallTime))
	n, err := p.ReadCloser.Read(b)
	if err != nil {
		_ = p.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
