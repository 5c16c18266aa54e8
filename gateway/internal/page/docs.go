package page

import (
	_ "embed"
	"io/fs"
	"net/http"
	"strings"

	"github.com/swaggest/swgui/v5/static"
	"github.com/swaggest/swgui/v5emb"

	"github.com/convoflow/convoflow/gateway/internal/record"
	"github.com/convoflow/convoflow/libs/fault"
)

// The files of the reference that are not part of Swagger UI.
var (
	//go:embed docs/docs.html
	docsHTML string
	//go:embed docs/docs.css
	docsCSS []byte
	//go:embed docs/docs.js
	docsJS []byte
	//go:embed docs/trusted.js
	trustedJS []byte
	//go:embed docs/icon.svg
	docsIcon []byte
)

// docsPolicy allows only scripts from the gateway itself. Swagger UI writes style attributes, which need 'unsafe-inline', and markup, for
// which trusted.js has a policy.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types default dompurify"

// Docs serves the interactive reference: page at base, such as /docs, and the files that it loads at base/{file}. It loads
// nothing from other hosts.
func Docs(base, contract string) (page, files http.Handler) {
	html := strings.NewReplacer("{base}", base, "{contract}", contract).Replace(docsHTML)
	own := map[string]http.Handler{
		"docs.css":   constant("text/css; charset=utf-8", "", docsCSS),
		"docs.js":    constant("text/javascript; charset=utf-8", "", docsJS),
		"trusted.js": constant("text/javascript; charset=utf-8", "", trustedJS),
		"icon.svg":   constant("image/svg+xml", "", docsIcon),
	}
	library := v5emb.NewHandler("", contract, base)
	return constant("text/html; charset=utf-8", docsPolicy, []byte(html)), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("file")
		switch {
		case own[name] != nil:
			own[name].ServeHTTP(w, r)
		case isAsset(name):
			w.Header().Set("Cache-Control", "public, max-age=3600")
			library.ServeHTTP(w, r)
		default:
			record.Fail(w, r, fault.New(fault.NotFound, "not_found", "No such path"))
		}
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
