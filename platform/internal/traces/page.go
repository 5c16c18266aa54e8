package traces

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

//go:embed page
var files embed.FS

// Viewer receives and shows traces. It is safe for concurrent use.
type Viewer struct {
	traces *store
	pages  *template.Template
}

// New returns a viewer without traces.
func New() (*Viewer, error) {
	pages, err := template.New("").Funcs(template.FuncMap{"ms": milliseconds}).ParseFS(files, "page/*.html")
	if err != nil {
		return nil, fmt.Errorf("read the pages: %w", err)
	}
	return &Viewer{newStore(), pages}, nil
}

// Handler serves the list of traces at /traces, each at /traces/{id}, and receives spans at /v1/traces.
func (v *Viewer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", v.receive)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/traces", http.StatusFound) })
	mux.HandleFunc("GET /traces", v.list)
	mux.HandleFunc("GET /traces/{id}", v.show)
	mux.HandleFunc("GET /static/traces.css", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "page/traces.css") })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.Host) { // a name that resolves to a loopback address: DNS rebinding
			http.Error(w, "Open this page as http://127.0.0.1, or through an SSH tunnel.", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func isLoopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		host = strings.Trim(hostPort, "[]") // without a port
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// summary is a trace in the list.
type summary struct {
	ID, Name string
	Services []string
	Start    time.Time
	Took     time.Duration
	Spans    int
	Failed   bool
}

// list shows the traces whose names or ids contain ?q=.
func (v *Viewer) list(w http.ResponseWriter, r *http.Request) {
	q := strings.ToLower(r.URL.Query().Get("q"))
	var found []summary
	for _, t := range v.traces.newest() {
		s := t.summary()
		if strings.Contains(strings.ToLower(s.Name), q) || strings.HasPrefix(s.ID, q) {
			found = append(found, s)
		}
	}
	v.render(w, "list.html", map[string]any{"Traces": found, "Query": q, "Max": maxTraces})
}

func (t trace) summary() summary {
	s := summary{ID: t.id, Name: t.spans[0].Name, Start: t.spans[0].Start, Spans: len(t.spans)}
	for _, span := range t.spans {
		s.Took = max(s.Took, span.End.Sub(s.Start))
		s.Failed = s.Failed || span.Failed
		if !slices.Contains(s.Services, span.Service) {
			s.Services = append(s.Services, span.Service)
		}
	}
	return s
}

// row is a span in the waterfall. X and Width are in the units of its drawing, which is 1000 wide.
type row struct {
	Span
	Depth    int
	Offset   time.Duration // since the start of the trace
	Took     time.Duration
	X, Width float64
	Ticks    []float64 // where its events are
	Color    int       // of the service
}

const drawing = 1000

func (v *Viewer) show(w http.ResponseWriter, r *http.Request) {
	t, ok := v.traces.find(strings.ToLower(r.PathValue("id")))
	if !ok {
		http.Error(w, "There is no such trace: only the newest are stored.", http.StatusNotFound)
		return
	}
	s := t.summary()
	v.render(w, "trace.html", map[string]any{"Trace": s, "Rows": t.rows(s), "Dropped": t.dropped})
}

// rows returns the spans as a tree, children below their parents in the order in which they began. A span whose parent is unknown is
// a root: the parent of the first is in the client.
func (t trace) rows(s summary) (rows []row) {
	known, children := map[string]bool{}, map[string][]Span{}
	for _, span := range t.spans {
		known[span.ID] = true
	}
	for _, span := range t.spans {
		parent := span.ParentID
		if !known[parent] || parent == span.ID {
			parent = ""
		}
		children[parent] = append(children[parent], span)
	}
	scale := drawing / float64(max(s.Took, time.Microsecond))
	var walk func(parent string, depth int)
	walk = func(parent string, depth int) {
		below := children[parent]
		delete(children, parent) // spans that are each other's parents end here
		for _, span := range below {
			r := row{Span: span, Depth: min(depth, 12), Offset: span.Start.Sub(s.Start), Took: span.End.Sub(span.Start), Color: slices.Index(s.Services, span.Service) % 6}
			r.X, r.Width = float64(r.Offset)*scale, max(2, float64(r.Took)*scale)
			for _, e := range span.Events {
				r.Ticks = append(r.Ticks, r.X+float64(e.After)*scale)
			}
			rows = append(rows, r)
			walk(span.ID, depth+1)
		}
	}
	walk("", 0)
	return rows
}

func (v *Viewer) render(w http.ResponseWriter, page string, data any) {
	var out bytes.Buffer
	if err := v.pages.ExecuteTemplate(&out, page, data); err != nil {
		http.Error(w, "The page cannot be drawn.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; img-src data:; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	_, _ = w.Write(out.Bytes())
}
