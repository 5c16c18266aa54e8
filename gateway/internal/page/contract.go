// Package page serves the gateway's own pages: the API reference, the OpenAPI document, health and readiness.
package page

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"
)

// Contract serves the OpenAPI document of the whole platform.
func Contract(document []byte) http.Handler { return constant("application/json", "", document) }

// constant serves immutable bytes with an ETag.
func constant(contentType, policy string, content []byte) http.Handler {
	sum := sha256.Sum256(content)
	tag := `W/"` + hex.EncodeToString(sum[:12]) + `"` // weak, because the body may be compressed
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		if policy != "" {
			h.Set("Content-Security-Policy", policy)
		}
		r = r.WithContext(r.Context())
		r.Header = http.Header{"If-None-Match": r.Header.Values("If-None-Match")} // Range is not supported
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}
