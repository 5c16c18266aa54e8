// Package console is the web console: a single-page app that the gateway serves at /console/. It has the files and says how they
// are served and what they may do; it knows no session and no data. It needs only the standard library: the build, which makes the
// files, is a program of its own.
package console

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/convoflow/convoflow/console/sample"
)

// Path is where the console is served. Its files have absolute addresses.
const Path = "/console/"

// Policy is the Content-Security-Policy of the console: nothing but its own files, and no script may turn text into markup.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"media-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

const (
	index     = "index.html"
	assets    = "assets/" // their names have the hash of their content
	immutable = "public, max-age=31536000, immutable"
)

//go:embed dist
var embedded embed.FS

// Built returns the files that were built into this binary.
func Built() fs.FS {
	built, err := fs.Sub(embedded, "dist")
	if err != nil {
		panic(err) // the name is a constant
	}
	return built
}

// file is one file of the console as it is sent.
type file struct {
	contentType string
	plain       []byte
	zipped      func() []byte // compresses at the first call; nil if that is not smaller
}

// Handler serves the files, which it reads now. Every path that is no file is a page of the app and gets the same document, which
// is never cached. It fails if a file cannot be read.
func Handler(files fs.FS) (http.Handler, error) {
	all := map[string]file{}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		all[name] = file{contentType: contentType(name), plain: content, zipped: sync.OnceValue(func() []byte { return compress(content) })}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the files of the console: %w", err)
	}
	all[sample.SalesCallName] = file{contentType: contentType(sample.SalesCallName), plain: sample.SalesCall(), zipped: never}
	if _, ok := all[index]; !ok {
		all[index] = file{contentType: contentType(index), plain: []byte(notBuilt), zipped: never}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, Path)
		f, ok := all[name]
		if !ok && strings.HasPrefix(name, assets) {
			http.NotFound(w, r) // of another version: the app loads itself again
			return
		}
		if !ok {
			name, f = index, all[index]
		}
		serve(w, r, name, f)
	}), nil
}

// Developed serves the files of a directory as they are at each request.
func Developed(files fs.FS) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now, err := Handler(files)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		now.ServeHTTP(w, r)
	})
}

func serve(w http.ResponseWriter, r *http.Request, name string, f file) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "no-cache")
	if strings.HasPrefix(name, assets) {
		h.Set("Cache-Control", immutable)
	}
	h.Set("Content-Security-Policy", Policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	// The microphone records calls; nothing else of the device is used.
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(self), payment=(), usb=()")
	content := f.plain
	if zipped := f.zipped(); zipped != nil {
		h.Add("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			content = zipped
		}
	}
	h.Set("Content-Length", fmt.Sprint(len(content)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(content) // fails only if the client has disconnected
	}
}

func never() []byte { return nil }

// compress returns nil if the content does not get a tenth smaller.
func compress(content []byte) []byte {
	var zipped bytes.Buffer
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // the level is valid
	_, _ = z.Write(content)                                    // a buffer never fails
	_ = z.Close()
	if zipped.Len() >= len(content)*9/10 {
		return nil
	}
	return zipped.Bytes()
}

// contentType does not depend on the machine's own table of types, except for what is not listed.
func contentType(name string) string {
	switch ext := path.Ext(name); ext {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".png":
		return "image/png"
	case ".woff2":
		return "font/woff2"
	case ".webmanifest":
		return "application/manifest+json"
	case ".wav":
		return "audio/wav"
	case ".opus", ".ogg":
		return "audio/ogg"
	default:
		if known := mime.TypeByExtension(ext); known != "" {
			return known
		}
		return "text/plain; charset=utf-8"
	}
}

const notBuilt = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Convoflow</title>
<h1>The console is not built into this program</h1><p>Run <code>make console</code>, then build it again. The API works without it: see <a href="/docs">the reference</a>.</p></html>
`
