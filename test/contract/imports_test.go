package contract_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const ours = "github.com/convoflow/convoflow/"

// adapters are the packages of services that depend on a technology. All others below internal are domain.
var adapters = []string{
	"store", "web", "feed", // PostgreSQL, HTTP, Kafka
	"audio", "bucket", "speech", // calls: ffmpeg, object storage, AI providers
	"pabbly", "meter", // notify: webhooks, metrics
	"password", // hashing
	"email",    // IDNA, Unicode
}

// domainLibs are the packages of libs that a domain may import.
var domainLibs = []string{"fault", "event", "copies", "lease", "clock", "identity", "page", "patch", "text", "seal"}

// notForDomains are packages of the standard library that are technologies.
var notForDomains = []string{"net/http", "database/sql", "os/exec", "os"}

// importProblem returns why a package of the repository may not import another package; empty if it may.
func importProblem(from, to string) string {
	own, isOwn := strings.CutPrefix(to, ours)
	top, _, _ := strings.Cut(from, "/")
	switch {
	case isOwn && top == "libs" && !strings.HasPrefix(own, "libs/"):
		return "libs knows no business"
	case isOwn && top == "api" && !strings.HasPrefix(own, "libs/") && !strings.HasPrefix(own, "api"):
		return "the contract knows no service"
	case isOwn && top == "gateway" && !slices.Contains([]string{"libs", "api", "console", "gateway"}, strings.Split(own, "/")[0]):
		return "the gateway imports no service"
	}
	parts := strings.Split(from, "/") // services/<service>/internal/<package>/…
	if top != "services" {
		return ""
	}
	service := "services/" + parts[1]
	if isOwn && strings.HasPrefix(own, "services/") && own != service && !strings.HasPrefix(own, service+"/") {
		return "no service imports another"
	}
	if len(parts) < 4 || parts[2] != "internal" {
		return "" // the root package and main wire
	}
	inside, isInside := strings.CutPrefix(own, service+"/internal/")
	target, _, _ := strings.Cut(inside, "/")
	if isOwn && own == service {
		return "only main imports the root package"
	}
	adapter := slices.Contains(adapters, parts[3])
	switch {
	case isInside && slices.Contains(adapters, target) && target != parts[3]:
		return "adapters are wired by the root package alone"
	case adapter:
		return ""
	case isInside:
		return ""
	case isOwn:
		lib, _ := strings.CutPrefix(own, "libs/")
		if own != "api/events" && !slices.Contains(domainLibs, lib) {
			return "a domain knows the standard library, api/events and libs/" + strings.Join(domainLibs, ", libs/")
		}
	case strings.Contains(strings.Split(to, "/")[0], "."):
		return "a domain knows no library"
	case slices.Contains(notForDomains, to):
		return "a domain knows no technology"
	}
	return ""
}

func TestImportsGoInOneDirection(t *testing.T) {
	t.Parallel()
	packages := 0
	for _, dir := range []string{"api", "gateway", "libs", "services"} {
		tree := os.DirFS("testdata/" + dir)
		require.NoError(t, fs.WalkDir(tree, ".", func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			text, err := fs.ReadFile(tree, name)
			if err != nil {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly)
			if err != nil {
				return err
			}
			packages++
			from := path.Join(dir, path.Dir(name))
			for _, spec := range file.Imports {
				to, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				if problem := importProblem(from, to); problem != "" && !strings.HasSuffix(path.Dir(name), "test") {
					t.Errorf("%s imports %s: %s", path.Join(dir, name), to, problem)
				}
			}
			return nil
		}))
	}
	require.Greater(t, packages, 100)
}

// The rules must also refuse what they forbid.
func TestImportsInTheWrongDirectionAreFound(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from, to string
		allowed  bool
	}{
		{"libs/bus", ours + "api/events", false},
		{"api/events", ours + "libs/event", true},
		{"api/events", ours + "services/crm", false},
		{"gateway", ours + "services/crm", false},
		{"services/crm", ours + "services/crm/internal/store", true},
		{"services/crm", ours + "services/auth", false},
		{"services/crm/internal/lead", ours + "libs/pg", false}, // a package that is not listed is domain
		{"services/crm/internal/lead", ours + "libs/page", true},
		{"services/crm/internal/lead", ours + "api/events", true},
		{"services/crm/internal/lead", ours + "api", false},
		{"services/crm/internal/lead", ours + "services/crm/internal/client", true},
		{"services/crm/internal/lead", ours + "services/crm/internal/store", false},
		{"services/crm/internal/lead", "github.com/jackc/pgx/v5", false},
		{"services/crm/internal/lead", "net/http", false},
		{"services/crm/internal/lead", "time", true},
		{"services/crm/internal/store", "github.com/jackc/pgx/v5", true},
		{"services/crm/internal/store", ours + "services/crm/internal/client", true},
		{"services/crm/internal/store", ours + "services/crm/internal/web", false},
		{"services/crm/internal/store", ours + "services/crm", false},
	} {
		require.Equal(t, tt.allowed, importProblem(tt.from, tt.to) == "", fmt.Sprint(tt))
	}
}
