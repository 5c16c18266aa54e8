// Command build makes the files of the console in console/dist: it bundles src with the libraries of third_party, collects the
// icons in one sprite, and fails if the result is larger than its budget. It needs no Node.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

const base = "/console/"

// Budgets are in bytes, gzipped where the server compresses.
const (
	firstRouteJS = 40 << 10 // what index.html loads
	allJS        = 90 << 10
	allCSS       = 12 << 10
	font         = 48 << 10
)

func main() {
	watch := flag.Bool("watch", false, "build again whenever a file changes")
	dir := flag.String("dir", "console", "the folder of the console")
	flag.Parse()
	if err := run(*dir, *watch); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string, watch bool) error {
	root, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	b := builder{root: root, dist: filepath.Join(root, "dist")}
	if !watch {
		result, sprite, err := b.build()
		if err != nil {
			return err
		}
		return b.write(result, sprite)
	}
	options, sprite, err := b.options()
	if err != nil {
		return err
	}
	options.Plugins = []api.Plugin{{Name: "write", Setup: func(p api.PluginBuild) {
		p.OnEnd(func(result *api.BuildResult) (api.OnEndResult, error) {
			if len(result.Errors) == 0 {
				if err := b.write(*result, sprite); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
			return api.OnEndResult{}, nil
		})
	}}}
	watched, failed := api.Context(options)
	if failed != nil {
		return failed
	}
	defer watched.Dispose()
	if err := watched.Watch(api.WatchOptions{}); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
	return nil
}

// builder has the absolute paths of the console and of what is made.
type builder struct{ root, dist string }

func (b builder) options() (api.BuildOptions, sprite, error) {
	icons, err := collect(filepath.Join(b.root, "src", "icons"))
	if err != nil {
		return api.BuildOptions{}, sprite{}, err
	}
	return api.BuildOptions{
		AbsWorkingDir: b.root,
		EntryPoints:   []string{"src/main.tsx", "src/style/main.css"},
		NodePaths:     []string{filepath.Join(b.root, "third_party")},
		Outdir:        filepath.Join(b.dist, "assets"),
		PublicPath:    base + "assets",
		EntryNames:    "[name]-[hash]",
		ChunkNames:    "[name]-[hash]",
		AssetNames:    "[name]-[hash]",
		Bundle:        true, Splitting: true, Format: api.FormatESModule, Metafile: true,
		MinifyWhitespace: true, MinifyIdentifiers: true, MinifySyntax: true,
		JSX: api.JSXAutomatic, JSXImportSource: "preact",
		Loader:        map[string]api.Loader{".woff2": api.LoaderFile},
		Define:        map[string]string{"SPRITE": fmt.Sprintf("%q", base+icons.name)},
		Target:        api.ES2022,
		Engines:       []api.Engine{{Name: api.EngineChrome, Version: "123"}, {Name: api.EngineSafari, Version: "17.5"}, {Name: api.EngineFirefox, Version: "120"}},
		LegalComments: api.LegalCommentsNone, // the licences are in third_party
		LogLevel:      api.LogLevelWarning,
	}, icons, nil
}

func (b builder) build() (api.BuildResult, sprite, error) {
	options, icons, err := b.options()
	if err != nil {
		return api.BuildResult{}, sprite{}, err
	}
	result := api.Build(options)
	if len(result.Errors) > 0 {
		return result, icons, errors.New("the console does not compile")
	}
	return result, icons, nil
}

// write replaces what was built before. Files of an older version would be embedded too.
func (b builder) write(result api.BuildResult, icons sprite) error {
	made, err := b.files(result, icons)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(b.dist, "assets")); err != nil {
		return err
	}
	for name, content := range made {
		path := filepath.Join(b.dist, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// files returns all files of dist by name, within their budgets.
func (b builder) files(result api.BuildResult, icons sprite) (map[string][]byte, error) {
	made := map[string][]byte{icons.name: icons.content}
	for _, f := range result.OutputFiles {
		name, err := filepath.Rel(b.dist, f.Path)
		if err != nil {
			return nil, err
		}
		made[filepath.ToSlash(name)] = f.Contents
	}
	var meta metafile
	if err := json.Unmarshal([]byte(result.Metafile), &meta); err != nil {
		return nil, fmt.Errorf("read esbuild's metafile: %w", err)
	}
	first := meta.firstRoute()
	if err := check(made, first); err != nil {
		return nil, err
	}
	template, err := os.ReadFile(filepath.Join(b.root, "src", "index.html"))
	if err != nil {
		return nil, err
	}
	made["index.html"] = page(template, made, first)
	return made, b.static(made)
}

// static adds the files that keep their names: the manifest, its icons and the theme's script.
func (b builder) static(made map[string][]byte) error {
	dir := filepath.Join(b.root, "src", "static")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if made[entry.Name()], err = os.ReadFile(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// metafile is the part of esbuild's metafile that is used.
type metafile struct {
	Outputs map[string]struct {
		EntryPoint string `json:"entryPoint"`
		Imports    []struct {
			Path string `json:"path"`
			Kind string `json:"kind"`
		} `json:"imports"`
	} `json:"outputs"`
}

// firstRoute returns the scripts that the first page loads: the entry, first, and all that it imports statically.
func (m metafile) firstRoute() []string {
	var names []string
	var add func(path string)
	add = func(path string) {
		name := strings.TrimPrefix(path, "dist/")
		if slices.Contains(names, name) {
			return
		}
		names = append(names, name)
		for _, i := range m.Outputs[path].Imports {
			if i.Kind == "import-statement" {
				add(i.Path)
			}
		}
	}
	for path, out := range m.Outputs {
		if out.EntryPoint == "src/main.tsx" {
			add(path)
		}
	}
	return names
}

// check fails if the files are larger than their budgets, and prints the sizes.
func check(made map[string][]byte, first []string) error {
	var js, css, woff, route int
	for name, content := range made {
		switch filepath.Ext(name) {
		case ".js":
			js += zipped(content)
		case ".css":
			css += zipped(content)
		case ".woff2":
			woff += len(content)
		}
	}
	for _, name := range first {
		route += zipped(made[name])
	}
	var over []error
	for _, part := range []struct {
		name         string
		size, budget int
	}{{"JS of the first route", route, firstRouteJS}, {"all JS", js, allJS}, {"CSS", css, allCSS}, {"font", woff, font}} {
		fmt.Printf("  %-22s %5.1f of %d kB\n", part.name, float64(part.size)/1024, part.budget>>10)
		if part.size > part.budget {
			over = append(over, fmt.Errorf("%s: %d bytes are over the budget of %d", part.name, part.size, part.budget))
		}
	}
	return errors.Join(over...)
}

func zipped(content []byte) int {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	_, _ = z.Write(content)                               // a buffer takes everything
	_ = z.Close()
	return b.Len()
}

// page fills in the names of the files. The document has no inline script or style, which the policy forbids.
func page(template []byte, made map[string][]byte, first []string) []byte {
	css, woff := "", ""
	for name := range made {
		switch filepath.Ext(name) {
		case ".css":
			css = base + name
		case ".woff2":
			woff = base + name
		}
	}
	var preload strings.Builder
	for _, name := range first[1:] {
		fmt.Fprintf(&preload, "<link rel=\"modulepreload\" href=\"%s%s\">\n", base, name)
	}
	replacer := strings.NewReplacer("{script}", base+first[0], "{style}", css, "{font}", woff, "{preload}", preload.String())
	return []byte(replacer.Replace(string(template)))
}

// sprite is one SVG file with all icons as symbols.
type sprite struct {
	name    string
	content []byte
}

var body = regexp.MustCompile(`(?s)<svg[^>]*>(.*)</svg>`)

func collect(dir string) (sprite, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return sprite{}, err
	}
	var out bytes.Buffer
	out.WriteString(`<svg xmlns="http://www.w3.org/2000/svg">`)
	for _, entry := range entries {
		icon, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return sprite{}, err
		}
		parts := body.FindSubmatch(icon)
		if parts == nil {
			return sprite{}, fmt.Errorf("%s is no SVG", entry.Name())
		}
		fmt.Fprintf(&out, `<symbol id="%s" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round">%s</symbol>`,
			strings.TrimSuffix(entry.Name(), ".svg"), bytes.Join(bytes.Fields(parts[1]), []byte(" ")))
	}
	out.WriteString("</svg>")
	sum := sha256.Sum256(out.Bytes())
	return sprite{"assets/icons-" + strings.ToUpper(hex.EncodeToString(sum[:4])) + ".svg", out.Bytes()}, nil
}
