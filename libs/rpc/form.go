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
	formOverhead = 1 << 20   // bytes of a form in addition to its file
	formBuffer   = 256 << 10 // bytes; package multipart itself reads 4 kB at a time
	maxParts     = 50
	maxFormField = 64 << 10         // bytes of one text field; the contract has stricter limits
	stallTimeout = 30 * time.Second // the longest wait for the next bytes of a body
	// finishTimeout limits the method that runs after a form has been read, and discardTimeout the removal of a refused file. Both
	// continue after the client has disconnected.
	finishTimeout  = 10 * time.Second
	discardTimeout = 10 * time.Second
)

// File says how an operation stores the file of a form (multipart/form-data, RFC 7578). The file is streamed to Store while it is
// received. When the whole form has been read, the other fields are validated like those of JSON.
type File[Req, Res any] struct {
	Field    string // name of the part
	MaxBytes int64  // of the whole form, except formOverhead
	TooLarge error  // the fault of a larger one
	// Ready is called before the body is read, after the caller was authenticated. If it fails, nothing is read or stored: a client
	// does not send a whole file for a 503.
	Ready func(ctx context.Context) error
	// Store stores the file, and sets the fields of req that describe it. The fingerprint identifies the content for an
	// Idempotency-Key. A fault with fields is reported together with the other invalid fields. Read errors of content are
	// faults and must be returned unchanged. If Store fails, it must leave nothing stored.
	Store func(ctx context.Context, req *Req, filename string, content io.Reader) (fingerprint string, err error)
	// Discard removes the stored file of a request that was refused, that was Unused, or whose response was stored under its
	// Idempotency-Key.
	Discard func(ctx context.Context, req Req) error
	// Unused reports whether the method has done without the file, for example because it knows its content already. It may be nil.
	Unused func(response Res) bool
}

// HandleForm routes a pattern to a method whose request is a form with a file.
func HandleForm[Req, Res any](r *Router, pattern, op string, file File[Req, Res], method func(context.Context, Req) (Res, error), options ...Option) {
	f := form[Req, Res]{File: file, op: r.operations[op]}
	r.handle(pattern, op, options, func(rt *route) endpoint.Endpoint {
		return func(ctx context.Context, request any) (any, error) {
			req, stored, err := f.read(request.(*http.Request))
			needed := false
			var response any
			if err == nil {
				// The file is stored, so the request is completed even if the client disconnects now.
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
				defer cancel()
				response, err = rt.wrap(func(ctx context.Context, request any) (any, error) {
					response, err := method(ctx, request.(Req))
					needed = f.needed(response, err)
					return response, err
				})(ctx, req)
			}
			// If the answer to the COMMIT was lost, it is unknown whether something refers to the file. Then it stays, and the service's
			// sweep decides.
			if stored && (!needed || err != nil && !errors.Is(err, fault.ErrOutcomeUnknown)) {
				err = errors.Join(err, f.discard(ctx, req))
			}
			return response, err
		}
	})
}

// form reads the forms of one operation.
type form[Req, Res any] struct {
	File[Req, Res]
	op openapi.Operation
}

// needed reports whether the file may be needed after the method has returned.
func (f form[Req, Res]) needed(response Res, err error) bool {
	return err != nil || f.Unused == nil || !f.Unused(response)
}

func (f form[Req, Res]) discard(ctx context.Context, req Req) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	if err := f.Discard(ctx, req); err != nil {
		return fmt.Errorf("discard the file of a refused form: %w", err)
	}
	return nil
}

// read reads a whole form. stored reports whether its file has been stored, also if there is an error.
func (f form[Req, Res]) read(r *http.Request) (req Req, stored bool, err error) {
	parts, body, err := f.open(r)
	if err != nil {
		return req, false, err
	}
	if err := f.Ready(r.Context()); err != nil {
		return req, false, err
	}
	params, wrong := readParams(f.op, r)
	fields, files, fingerprint := map[string]any{}, 0, ""
	for n := 0; ; n++ {
		// NextPart would decode quoted-printable, which must not happen to a file.
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
			problems, err := f.field(part, fields, exchangeOf(r.Context()).buffer)
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
		fields[f.Field] = "" // so that the contract finds it if it is required
	}
	// The form is complete, and the body may not be: if it is truncated after the form, the client believes that the request failed.
	if _, err := io.Copy(io.Discard, body); err != nil {
		return req, stored, f.classify(err)
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

// open starts reading a form. parts reads from body. If it fails, it has read nothing of the body.
func (f form[Req, Res]) open(r *http.Request) (parts *multipart.Reader, body io.Reader, err error) {
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != f.op.ContentType {
		return nil, nil, unsupported(f.op)
	}
	if params["boundary"] == "" {
		return nil, nil, fault.New(fault.Malformed, "malformed_form", "The body is not a form: its content type names no boundary")
	}
	if r.ContentLength > f.MaxBytes+formOverhead {
		return nil, nil, f.TooLarge
	}
	body = http.MaxBytesReader(nil, stallReader{r.Body, exchangeOf(r.Context()).control()}, f.MaxBytes+formOverhead)
	return multipart.NewReader(bufio.NewReaderSize(io.MultiReader(body, strings.NewReader("\r\n"), unexpectedEnd{}), formBuffer), params["boundary"]), body, nil
}

// stallReader is a body with a timeout per read and none in total.
type stallReader struct {
	io.ReadCloser
	control *http.ResponseController
}

func (s stallReader) Read(p []byte) (int, error) {
	// The error is ignored: a test's recorder has no deadlines.
	_ = s.control.SetReadDeadline(clock.Deadline(stallTimeout))
	n, err := s.ReadCloser.Read(p)
	if err != nil {
		_ = s.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// field reads a text field. It ignores a field that the contract does not define, and an empty one. If a field is sent twice, the
// last value counts.
func (f form[Req, Res]) field(part *multipart.Part, fields map[string]any, buffer *Buffer) ([]fault.Field, error) {
	name := part.FormName()
	kind, known := f.op.Body.Property(name)
	if !known {
		return nil, nil
	}
	raw, err := buffer.ReadAll(io.LimitReader(part, maxFormField+1), -1)
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

// classify turns an error of reading a form into a fault.
func (f form[Req, Res]) classify(err error) error {
	var over *http.MaxBytesError
	var refused *fault.Error
	switch {
	case errors.As(err, &over):
		return f.TooLarge
	case errors.As(err, &refused):
		return refused // beyond the Budget
	}
	// The cause is only the text of err: io.ReadFull and others would take a wrapped io.ErrUnexpectedEOF for a short read.
	return fault.Wrap(errors.New(err.Error()), fault.Malformed, "malformed_form", "The body is not a form, or ended before it was complete")
}

// unexpectedEnd is appended to a body. Without it, package multipart would accept a body that ends inside a part's header as
// complete. The line break before it is for clients that omit the one after the last boundary.
type unexpectedEnd struct{}

func (unexpectedEnd) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// content is a part of a form. Its read errors are faults.
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
