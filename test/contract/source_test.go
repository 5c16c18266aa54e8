package contract_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
)

// answer is a row of docs/errors.md: a code in a section.
type answer struct {
	section string
	code    string
	status  int
}

func (a answer) String() string {
	if a.status == 0 {
		return a.section + ": " + a.code
	}
	return fmt.Sprintf("%s: %s %d", a.section, a.code, a.status)
}

// sources are the errors found in the code.
type sources struct {
	kinds   map[string]fault.Kind // by name
	consts  map[string]string     // texts by "directory.name"
	answers []answer
	types   []string        // of invalid fields
	unread  []string        // "file: function" where the code of a fault is not a literal or constant
	texts   map[string]bool // every literal
}

// readSources parses all code that responds to clients.
func readSources(t *testing.T) *sources {
	t.Helper()
	texts := map[string]string{}
	for _, dir := range []string{"gateway", "libs", "services"} {
		tree := os.DirFS("testdata/" + dir)
		err := fs.WalkDir(tree, ".", func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			text, err := fs.ReadFile(tree, name)
			texts[path.Join(dir, name)] = string(text)
			return err
		})
		require.NoError(t, err)
	}
	src, err := parseSources(texts)
	require.NoError(t, err)
	return src
}

// parseSources parses Go files, by path in the repository.
func parseSources(texts map[string]string) (*sources, error) {
	src := &sources{kinds: map[string]fault.Kind{}, consts: map[string]string{}, texts: map[string]bool{}}
	files := map[string]*ast.File{}
	for name, text := range texts {
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files[name] = file
		src.readConsts(path.Dir(name), file)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		src.readFile(name, files[name])
	}
	return src, nil
}

// readConsts also finds the kinds: the constants of libs/fault that have no text, in their order.
func (src *sources) readConsts(dir string, file *ast.File) {
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for i, spec := range group.Specs {
			value := spec.(*ast.ValueSpec)
			for j, name := range value.Names {
				if j < len(value.Values) {
					if text, ok := literal(value.Values[j]); ok {
						src.consts[dir+"."+name.Name] = text
						continue
					}
				}
				if dir == "libs/fault" {
					src.kinds[name.Name] = fault.Kind(i)
				}
			}
		}
	}
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// scope is a file.
type scope struct {
	*sources
	dir     string
	imports map[string]string // paths by name in the file
}

func (src *sources) readFile(name string, file *ast.File) {
	s := scope{src, path.Dir(name), map[string]string{}}
	for _, imp := range file.Imports {
		from, _ := literal(imp.Path)
		from = strings.TrimPrefix(from, "github.com/convoflow/convoflow/")
		as := path.Base(from)
		if imp.Name != nil {
			as = imp.Name.Name
		}
		s.imports[as] = from
	}
	for _, decl := range file.Decls {
		where := name
		if f, ok := decl.(*ast.FuncDecl); ok {
			where += ": " + f.Name.Name
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				return s.call(where, n)
			case *ast.CompositeLit:
				s.composite(where, decl, n)
			case *ast.AssignStmt:
				s.assignment(n)
			case *ast.BasicLit:
				text, _ := literal(n)
				s.texts[text] = true
			}
			return true
		})
	}
}

// full returns the qualified name of what an expression refers to: "libs/fault.New".
func (s scope) full(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return s.dir + "." + e.Name
	case *ast.SelectorExpr:
		if pkg, ok := e.X.(*ast.Ident); ok {
			return s.imports[pkg.Name] + "." + e.Sel.Name
		}
	}
	return ""
}

// call reports whether the call may contain more.
func (s scope) call(where string, call *ast.CallExpr) bool {
	switch s.full(call.Fun) {
	case "libs/fault.New":
		s.add(where, call.Args[0], call.Args[1])
	case "libs/fault.Wrap":
		s.add(where, call.Args[1], call.Args[2])
	case "libs/fault.BodyField":
		s.addType(call.Args[1])
	case "services/calls/internal/call.problemOf": // no client receives a fault that is created here
		if cause, ok := call.Args[0].(*ast.CallExpr); ok && s.full(cause.Fun) == "libs/fault.New" {
			code, _ := literal(cause.Args[1])
			s.answers = append(s.answers, answer{failedCall, code, 0})
		}
		return false
	}
	return true
}

func (s scope) composite(where string, decl ast.Decl, lit *ast.CompositeLit) {
	parts := map[string]ast.Expr{}
	for _, e := range lit.Elts {
		pair, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		if key, ok := pair.Key.(*ast.Ident); ok {
			parts[key.Name] = pair.Value
		}
		// A literal body: {"code": "…"}. Its status is the one that the function names.
		if key, _ := literal(pair.Key); key == "code" {
			if code, ok := literal(pair.Value); ok {
				s.answers = append(s.answers, answer{s.section(), code, s.statusIn(decl)})
			}
		}
	}
	switch s.full(lit.Type) {
	case "libs/fault.Error":
		s.add(where, parts["Kind"], parts["Code"])
	case "libs/fault.Field":
		s.addType(parts["Type"])
	}
}

// assignment finds literal responses, written before there is a request: status, code, … = http.StatusBadRequest, "…".
func (s scope) assignment(a *ast.AssignStmt) {
	values := map[string]ast.Expr{}
	for i, to := range a.Lhs {
		if name, ok := to.(*ast.Ident); ok && len(a.Lhs) == len(a.Rhs) {
			values[name.Name] = a.Rhs[i]
		}
	}
	if code, ok := literal(values["code"]); ok && values["status"] != nil {
		s.answers = append(s.answers, answer{s.section(), code, statusNamed(s.full(values["status"]))})
	}
}

// statusIn returns the error status that a function names, 0 if there is none or several.
func (s scope) statusIn(decl ast.Decl) int {
	var found []int
	ast.Inspect(decl, func(n ast.Node) bool {
		if e, ok := n.(*ast.SelectorExpr); ok {
			if status := statusNamed(s.full(e)); status != 0 && !slices.Contains(found, status) {
				found = append(found, status)
			}
		}
		return true
	})
	if len(found) != 1 {
		return 0
	}
	return found[0]
}

// statusNamed returns the value of a constant of net/http, 0 if there is none.
func statusNamed(name string) int {
	for status := 400; status < 600; status++ {
		if text := http.StatusText(status); text != "" && name == "net/http.Status"+strings.ReplaceAll(text, " ", "") {
			return status
		}
	}
	return 0
}

func (s scope) add(where string, kind, code ast.Expr) {
	text, ok := literal(code)
	section := s.section()
	if !ok {
		name := s.full(code)
		text, ok = s.consts[name]
		if strings.HasPrefix(name, "services/calls/internal/call.Code") {
			section = failedCall
		}
	}
	k, known := s.kinds[strings.TrimPrefix(s.full(kind), "libs/fault.")]
	if !ok || !known {
		s.unread = append(s.unread, where)
		return
	}
	a := answer{section, text, fault.Status(fault.New(k, text, ""))}
	if section == failedCall {
		a.status = 0 // its kind decides about retries
	}
	s.answers = append(s.answers, a)
}

func (s scope) addType(e ast.Expr) {
	if text, ok := literal(e); ok {
		s.types = append(s.types, text)
	}
}

// section returns the section of the codes of a file.
func (s scope) section() string {
	if service, ok := strings.CutPrefix(s.dir, "services/"); ok {
		service, _, _ = strings.Cut(service, "/")
		return service
	}
	return everywhere
}
