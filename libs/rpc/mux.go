package rpc

import (
	"net/http"
	"path"
	"strings"

	"github.com/convoflow/convoflow/libs/fault"
)

// Mux is a ServeMux that ignores trailing slashes, and responds to an unknown path or method in the format of all errors.
type Mux struct{ patterns *http.ServeMux }

const (
	unrouted  = "/" // the pattern for requests that match no other pattern
	maxMethod = 32  // bytes of a method that an error quotes
)

// NewMux returns a Mux without patterns.
func NewMux() *Mux {
	m := &Mux{patterns: http.NewServeMux()}
	m.patterns.HandleFunc(unrouted, m.refuse)
	return m
}

// Handle registers a handler for a pattern, as http.ServeMux does.
func (m *Mux) Handle(pattern string, h http.Handler) { m.patterns.Handle(pattern, h) }

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p := r.URL.Path; len(p) > 1 && p[len(p)-1] == '/' {
		trimmed := *r.URL
		trimmed.Path, trimmed.RawPath = strings.TrimRight(p, "/"), ""
		if trimmed.Path == "" {
			trimmed.Path = "/"
		}
		clone := *r
		clone.URL = &trimmed
		r = &clone
	}
	if path.Clean(r.URL.Path) != r.URL.Path || r.URL.Path == "*" {
		WriteError(w, r, fault.New(fault.NotFound, "not_found", "No such path")) // ServeMux would redirect
		return
	}
	m.patterns.ServeHTTP(w, r)
}

func (m *Mux) refuse(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := *r
		probe.Method = method
		if _, pattern := m.patterns.Handler(&probe); pattern != unrouted {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		WriteError(w, r, fault.New(fault.NotFound, "not_found", "No such path"))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	method := r.Method[:min(len(r.Method), maxMethod)] // net/http accepts any token of up to 32 kB
	WriteError(w, r, fault.New(fault.MethodNotAllowed, "method_not_allowed", "This path does not take "+method))
}
