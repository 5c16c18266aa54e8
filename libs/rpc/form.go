package rpc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"github.com/go-kit/kit/endpoint"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/openapi"
)

const (
	formOverhead = 1 << 20   // bytes of a form beside its file
	formBuffer   = 256 << 10 // bytes: package multipart itself reads 4 kB at a time
	maxParts     = 50
	maxFormField = 64 << 10         // bytes of one text field; the contract sets the real limits
	stallTimeout = 30 * time.Second // without a byte of a body, after which its sender counts as gone
	// finishTimeout bounds the method that follows a form, and discardTimeout the removal of its file when it is refused. Both
	// go on when the client has left.
	finishTimeout  = 10 * time.Second
	discardTimeout = 10 * time.Second
)

// File is how an operation takes the file of a form (multipart/form-data, RFC 7578): it is streamed to Store while it
// arrives. The other fields are validated by the contract like those of JSON, when the form has been read to its end.
type File[Req any] struct {
	Field    string // name of the part
	MaxBytes int64  // of the whole form but formOverhead
	// Store stores the file, and whatever the request has to know of it in req. The fingerprint identifies the content for
	// an Idempotency-Key. A fault with fields is reported with the other wrong fields; errors of content are faults already
	// and must be returned as they are. After an error nothing may stay stored.
	Store func(ctx context.Context, req *Req, filename string, content io.Reader) (fingerprint string, err error)
	// Discard removes the stored file of a request that was refused, or answered by its Idempotency-Key.
	Discard func(ctx context.Context, req Req) error
}

// HandleForm routes a pattern to a method whose request is a form with a file.
func HandleForm[Req, Res any](r *Router, pattern, op string, file File[Req], method func(context.Context, Req) (Res, error), options ...Option) {
	f := form[Req]{File: file, op: r.operations[op]}
	r.handle(pattern, op, options, func(rt *route) endpoint.Endpoint {
		return func(ctx context.Context, request any) (any, error) {
			req, stored, err := f.read(request.(*http.Request))
			called := false
			var response any
			if err == nil {
				// The file is stored: a client that leaves now gets what it asked for all the same.
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
				defer cancel()
				response, err = rt.wrap(func(ctx context.Context, request any) (any, error) {
					called = true
					return method(ctx, request.(Req))
				})(ctx, req)
			}
			// A transient error of the method leaves open whether its change was committed. Then the file stays, and the
			// service's sweep removes it when nothing refers to it.
			if stored && (!called || err != nil && !fault.Retryable(err)) {
				err = errors.Join(err, f.discard(ctx, req))
			}
			return response, err
		}
	})
}

// form reads the forms of one operation.
type form[Req any] struct {
	File[Req]
	op openapi.Operation
}

func (f form[Req]) discard(ctx context.Context, req Req) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	if err := f.Discard(ctx, req); err != nil {
		return fmt.Errorf("discard the file of a refused form: %w", err)
	}
	return nil
}

// read reads a form to its end. stored reports whether its file is stored, also when there is an error.
func (f form[Req]) read(r *http.Request) (req Req, stored bool, err error) {
	parts, err := f.open(r)
	if err != nil {
		return req, false, err
	}
	params, wrong := readParams(f.op, r)
	fields, files, fingerprint := map[string]any{}, 0, ""
	for n := 0; ; n++ {
		// Raw, because NextPart decodes quoted-printable, which a file never is.
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return req, stored, f.classify(err)
		}
		if n == maxParts {
			return req, stored, fault.New(fault.Malformed, "too_many_parts", fmt.Sprintf("Send at most %d parts", maxParts))
		}
		if part.FormName() != f.Field {
			problems, err := f.field(part, fields)
			if err != nil {
				return req, stored, err
			}
			wrong = append(wrong, problems...)
			continue
		}
		if files++; files > 1 {
			continue
		}
		fingerprint, err = f.Store(r.Context(), &req, part.FileName(), content{part, f.classify})
		if fault.Is(err, fault.Invalid) {
			wrong = append(wrong, fault.Of(err).Fields...)
		} else if err != nil {
			return req, false, err
		}
		stored = err == nil
		fields[f.Field] = "" // for the contract, which knows whether it is required
	}
	if files > 1 {
		wrong = append(wrong, fault.BodyField(f.Field, "too_long", "Send one file per request"))
	}
	wrong = append(wrong, f.op.Body.Check(fields, "body")...)
	if err := wrongFields(wrong); err != nil {
		return req, stored, err
	}
	delete(fields, f.Field)
	known := f.op.Body.Known(fields)
	if exchangeOf(r.Context()).fingerprint, err = json.Marshal([]any{known, fingerprint}); err != nil {
		return req, stored, fmt.Errorf("marshal the fields of a form: %w", err)
	}
	return req, stored, fill(&req, params, known)
}

// open begins to read a form. Nothing of its body has been read when it fails.
func (f form[Req]) open(r *http.Request) (*multipart.Reader, error) {
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != f.op.ContentType {
		return nil, unsupported(f.op)
	}
	if params["boundary"] == "" {
		return nil, fault.New(fault.Malformed, "malformed_form", "The body is not a form: its content type names no boundary")
	}
	if r.ContentLength > f.MaxBytes+formOverhead {
		return nil, f.tooLarge()
	}
	body := http.MaxBytesReader(nil, stalling{r.Body, exchangeOf(r.Context()).control()}, f.MaxBytes+formOverhead)
	return multipart.NewReader(bufio.NewReaderSize(io.MultiReader(body, strings.NewReader("\r\n"), unexpectedEnd{}), formBuffer), params["boundary"]), nil
}

// stalling is a body each read of which may take stallTimeout, however long all of them take together.
type stalling struct {
	io.ReadCloser
	control *http.ResponseController
}

func (s stalling) Read(p []byte) (int, error) {
	// A connection without deadlines, as in tests, cannot stall.
	_ = s.control.SetReadDeadline(clock.System{}.Now().Add(stallTimeout))
	n, err := s.ReadCloser.Read(p)
	if err != nil {
		_ = s.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// field reads a text field that the contract knows. An empty one counts as left out, as does one that is sent again.
func (f form[Req]) field(part *multipart.Part, fields map[string]any) ([]fault.Field, error) {
	name := part.FormName()
	kind, known := f.op.Body.Property(name)
	if !known {
		return nil, nil
	}
	raw, err := io.ReadAll(io.LimitReader(part, maxFormField+1))
	if err != nil {
		return nil, f.classify(err)
	}
	if len(raw) > maxFormField {
		return []fault.Field{fault.BodyField(name, "string_too_long", fmt.Sprintf("String should have at most %d bytes", maxFormField))}, nil
	}
	text := strings.TrimSpace(string(raw))
	if text == "" {
		return nil, nil
	}
	value, typ, msg := openapi.Convert(text, kind)
	if typ != "" {
		return []fault.Field{fault.BodyField(name, typ, msg)}, nil
	}
	fields[name] = value
	return nil, nil
}

func (f form[Req]) tooLarge() error {
	return fault.New(fault.TooLarge, f.Field+"_too_large", fmt.Sprintf("The file is over %d MB", f.MaxBytes>>20))
}

// classify makes a fault of what goes wrong while a form is read.
func (f form[Req]) classify(err error) error {
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return f.tooLarge()
	}
	// Only the text stays: readers of the part would take the io.ErrUnexpectedEOF in it for the end of a short read.
	return fault.Wrap(errors.New(err.Error()), fault.Malformed, "malformed_form", "The body is not a form, or ended before it was complete")
}

// unexpectedEnd follows a body. Package multipart takes the end of a body in the middle of a part's header for the last
// boundary, unless it is an error; the line end before it is for senders that leave out the last one.
type unexpectedEnd struct{}

func (unexpectedEnd) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// content is a part whose errors are faults.
type content struct {
	part     *multipart.Part
	classify func(error) error
}

func (c content) Read(p []byte) (int, error) {
	n, err := c.part.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.classify(err)
	}
	return n, err
}
