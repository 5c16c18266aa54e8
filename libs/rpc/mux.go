package rpc

import (
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/convoflow/convoflow/libs/fault"
)

// Mux is a ServeMux that ignores trailing slashes, and responds to an unknown path or method in the format of all errors. A path
// with a pattern of its own takes only the methods of that pattern: "GET /calls/{id}" does not take GET /calls/upload if there is
// "POST /calls/upload". So does a path that begins with two literal segments of a pattern with wildcards: "GET /leads/imports/{id}"
// and "GET /leads/{id}/timeline", which conflict in a ServeMux, are both served, and GET /leads/imports/timeline is the former.
type Mux struct {
	patterns *http.ServeMux
	nested   map[string]*http.ServeMux // patterns that begin with two literal segments, such as /leads/imports/
	literal  map[string][]string       // methods of the paths of patterns without wildcards
}

const (
	unrouted  = "/" // the pattern for requests that match no other pattern
	maxMethod = 32  // bytes of a method that an error quotes
)

// NewMux returns a Mux without patterns.
func NewMux() *Mux {
	m := &Mux{patterns: http.NewServeMux(), nested: map[string]*http.ServeMux{}, literal: map[string][]string{}}
	m.patterns.HandleFunc(unrouted, m.refuse)
	return m
}

// Handle registers a handler for a pattern, as http.ServeMux does. It must not be called after the first request.
func (m *Mux) Handle(pattern string, h http.Handler) {
	method, path, ok := strings.Cut(pattern, " ")
	begin := twoSegments(path)
	if ok && begin != "" && !strings.Contains(begin, "{") && strings.Contains(path, "{") {
		if m.nested[begin] == nil {
			m.nested[begin] = http.NewServeMux()
			m.nested[begin].HandleFunc(unrouted, m.refuse)
		}
		m.nested[begin].Handle(pattern, h)
		return
	}
	m.patterns.Handle(pattern, h)
	if ok && !strings.Contains(path, "{") {
		m.literal[path] = append(m.literal[path], method)
	}
}

// twoSegments returns the first two segments of a path with the slash after them, or "" if it has no more than two.
func twoSegments(path string) string {
	slashes := 0
	for i := range len(path) {
		if path[i] != '/' {
			continue
		}
		if slashes++; slashes == 3 {
			return path[:i+1]
		}
	}
	return ""
}

// of returns the patterns for a path.
func (m *Mux) of(path string) *http.ServeMux {
	if nested := m.nested[twoSegments(path)]; nested != nil {
		return nested
	}
	return m.patterns
}

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
	methods, isLiteral := m.literal[r.URL.Path]
	switch {
	case isLiteral && !takes(methods, r.Method):
		m.refuse(w, r)
	case isLiteral: // also one under the first segments of nested patterns
		m.patterns.ServeHTTP(w, r)
	default:
		m.of(r.URL.Path).ServeHTTP(w, r)
	}
}

// takes reports whether a path with these methods takes another one. A GET also takes HEAD.
func takes(methods []string, method string) bool {
	return slices.Contains(methods, method) || method == http.MethodHead && slices.Contains(methods, http.MethodGet)
}

func (m *Mux) refuse(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	literal, isLiteral := m.literal[r.URL.Path]
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := *r
		probe.Method = method
		patterns := m.of(r.URL.Path)
		if isLiteral {
			patterns = m.patterns
		}
		if _, pattern := patterns.Handler(&probe); pattern != unrouted && (!isLiteral || takes(literal, method)) {
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
