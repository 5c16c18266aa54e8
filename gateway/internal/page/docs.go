package page

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5/static"
	"github.com/swaggest/swgui/v5emb"

	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/fault"
)

// Docs is the interactive reference: the page for base (such as /docs), and for base/{file} what the page loads. Nothing
// comes from elsewhere, and its policy lets nothing run that is not part of it.
func Docs(base, contract string) (page, files http.Handler) {
	ui := v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "Convoflow", SwaggerJSON: contract, BasePath: base,
		SettingsUI: map[string]string{"tryItOutEnabled": "true", "displayRequestDuration": "true"},
	})
	html := render(ui, base)
	return constant("text/html; charset=utf-8", policy(html), html), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isAsset(r.PathValue("file")) {
			record.Fail(w, r, fault.New(fault.NotFound, "not_found", "No such path"))
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=3600")
		ui.ServeHTTP(w, r)
	})
}

func isAsset(name string) bool {
	for _, stored := range []string{name, name + ".gz"} {
		if info, err := fs.Stat(static.FS, stored); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// policy allows the scripts that stand in the page, by their hashes. Swagger UI writes style attributes, so styles are
// free.
func policy(html []byte) string {
	scripts := []string{"'self'"}
	for _, inline := range regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllSubmatch(html, -1) {
		sum := sha256.Sum256(inline[1])
		scripts = append(scripts, fmt.Sprintf("'sha256-%s'", base64.StdEncoding.EncodeToString(sum[:])))
	}
	return "default-src 'none'; script-src " + strings.Join(scripts, " ") +
		"; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// render asks the library for its page, once: it never changes.
func render(ui http.Handler, base string) []byte {
	var b buffer
	ui.ServeHTTP(&b, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: base}, Header: http.Header{}})
	return b.Bytes()
}

// buffer is an answer kept in memory.
type buffer struct {
	bytes.Buffer
	header http.Header
}

func (b *buffer) Header() http.Header {
	if b.header == nil {
		b.header = http.Header{}
	}
	return b.header
}

func (b *buffer) WriteHeader(int) {}
