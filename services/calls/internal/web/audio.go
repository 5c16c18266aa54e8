package web

import (
	"fmt"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// serveAudio responds with the recording or the requested ranges of it, RFC 9110 section 14.
func serveAudio(w http.ResponseWriter, r *http.Request, a call.Audio) error {
	defer func() { _ = a.Content.Close() }()
	disposition := map[string]string{}
	if a.Call.Recording.Filename != nil {
		disposition["filename"] = *a.Call.Recording.Filename
	}
	h := w.Header()
	h.Set("Content-Type", a.Call.Recording.ContentType)
	h.Set("Content-Disposition", mime.FormatMediaType("inline", disposition))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "private, no-cache")
	h.Set("ETag", strconv.Quote(a.Call.Recording.SHA256))
	// These preconditions are meant for changes, and a recording never changes: the contract has no 412.
	r = r.Clone(r.Context())
	r.Header.Del("If-Match")
	r.Header.Del("If-Unmodified-Since")
	if ranges := r.Header.Get("Range"); ranges != "" {
		r.Header.Set("Range", withoutEmptySuffixes(ranges))
	}
	http.ServeContent(&unsatisfiable{ResponseWriter: w, request: r}, r, "", a.Call.CreatedAt, a.Content)
	return nil
}

// withoutEmptySuffixes replaces the range -0 by one that begins after every recording. RFC 9110 section 14.1.2 has it that a suffix
// of no bytes cannot be satisfied; net/http responds with 206 and no content.
func withoutEmptySuffixes(ranges string) string {
	unit, set, ok := strings.Cut(ranges, "=")
	if !ok {
		return ranges
	}
	specs := strings.Split(set, ",")
	for i, spec := range specs {
		digits, isSuffix := strings.CutPrefix(strings.TrimSpace(spec), "-")
		if isSuffix && digits != "" && strings.Trim(digits, "0") == "" {
			specs[i] = fmt.Sprintf("%d-", math.MaxInt64)
		}
	}
	return unit + "=" + strings.Join(specs, ",")
}

// unsatisfiable writes a 416 as a JSON error instead of net/http's text.
type unsatisfiable struct {
	http.ResponseWriter
	request  *http.Request
	replaced bool // the response has been written, and net/http's text is dropped
}

func (u *unsatisfiable) WriteHeader(status int) {
	if status != http.StatusRequestedRangeNotSatisfiable {
		u.ResponseWriter.WriteHeader(status)
		return
	}
	u.replaced = true
	u.Header().Del("Content-Disposition")
	rpc.WriteError(u.ResponseWriter, u.request, fault.New(fault.OutOfRange, "range_not_satisfiable", "The recording has no such range"))
}

func (u *unsatisfiable) Write(p []byte) (int, error) {
	if u.replaced {
		return len(p), nil
	}
	return u.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (u *unsatisfiable) Unwrap() http.ResponseWriter { return u.ResponseWriter }
