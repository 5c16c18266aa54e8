package contract_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api"
)

func TestEveryErrorCodeIsDocumentedAndNoOther(t *testing.T) {
	t.Parallel()
	src := readSources(t)
	// These pass on a code from their arguments. If you add one, document its possible codes yourself.
	require.Equal(t, []string{"libs/fault/fault.go: New", "libs/fault/fault.go: Wrap", "libs/peer/peer.go: send"}, src.unread)
	require.Empty(t, differences(src, readErrorsDoc(t)), "docs/errors.md and the code differ")
}

// nowhere are the codes that are in no operation's examples.
var nowhere = []string{
	"header_too_large", "method_not_allowed", "not_found", // occur before there is an operation; the text of the contract has them
	"internal_error", "data_refused", // are always bugs
}

func TestTheContractShowsEveryErrorCodeAndNoOther(t *testing.T) {
	t.Parallel()
	raw, err := api.Merged("now")
	require.NoError(t, err)
	contract, err := openapi3.NewLoader().LoadFromData(raw)
	require.NoError(t, err)
	doc, hidden := readErrorsDoc(t), map[string]bool{}
	for section, codes := range doc {
		for code := range codes {
			if section == everywhere || slices.Contains(api.Services(), section) {
				hidden[code] = true
			}
		}
	}
	for _, path := range contract.Paths.Map() {
		for _, op := range path.Operations() {
			service, _, _ := strings.Cut(op.OperationID, ".")
			for status, response := range op.Responses.Map() {
				for _, body := range response.Value.Content {
					for _, example := range body.Examples {
						value, _ := example.Value.Value.(map[string]any)
						if code, ok := value["code"].(string); ok {
							delete(hidden, code)
							documented := []string{strconv.Itoa(doc[everywhere][code]), strconv.Itoa(doc[service][code])}
							if service == "gateway" { // the session of the console forwards the errors of auth
								documented = append(documented, strconv.Itoa(doc["auth"][code]))
							}
							assert.Contains(t, documented, status, "%s answers with %s", op.OperationID, code)
						}
					}
				}
			}
		}
	}
	require.ElementsMatch(t, nowhere, slices.Collect(maps.Keys(hidden)), "an answer in api/*.yaml shows each code as an example")
}

func readErrorsDoc(t *testing.T) errorsDoc {
	t.Helper()
	raw, err := os.ReadFile("testdata/docs/errors.md")
	require.NoError(t, err)
	doc, err := parseErrorsDoc(string(raw))
	require.NoError(t, err)
	return doc
}

// The sections of docs/errors.md that are not named after a service.
const (
	everywhere = "Any operation"
	wrongField = "Wrong fields"
	failedCall = "Failed calls"
	unseen     = "Not for clients"
)

// errorsDoc is the content of docs/errors.md: section, code, status. The status is 0 in tables without one.
type errorsDoc map[string]map[string]int

var errorRow = regexp.MustCompile("^\\| `([a-z_]+)` \\| (?:(\\d{3}) \\| )?[^|]+ \\| [^|]+ \\|$")

func parseErrorsDoc(text string) (errorsDoc, error) {
	doc, section := errorsDoc{}, ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = title
			doc[section] = map[string]int{}
		}
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := errorRow.FindStringSubmatch(line)
		if cells == nil {
			return nil, fmt.Errorf("not a row of code, status if any, meaning and what to do: %s", line)
		}
		if _, twice := doc[section][cells[1]]; twice {
			return nil, fmt.Errorf("%s is twice in %s", cells[1], section)
		}
		doc[section][cells[1]], _ = strconv.Atoi(cells[2]) // no status is 0
	}
	return doc, nil
}

// differences returns what only one of code and documentation has.
func differences(src *sources, doc errorsDoc) (found []string) {
	inCode := map[answer]bool{}
	for _, a := range src.answers {
		if _, ok := doc[unseen][a.code]; ok {
			a = answer{unseen, a.code, 0}
		} else if _, ok := doc[everywhere][a.code]; ok && a.section != failedCall {
			a.section = everywhere // a service returns it too, with the same status
		}
		inCode[a] = true
		if status, ok := doc[a.section][a.code]; !ok || status != a.status {
			found = append(found, "only the code has "+a.String())
		}
	}
	for section, codes := range doc {
		for code, status := range codes {
			a := answer{section, code, status}
			known := inCode[a]
			switch section {
			case wrongField:
				known = src.texts[code] // some come from tables, as plain texts
			case failedCall: // besides its own codes, a failed call can have any code that its processing returned
				known = slices.ContainsFunc(src.answers, func(a answer) bool { return a.code == code })
			}
			if !known {
				found = append(found, "only the documentation has "+a.String())
			}
		}
	}
	for _, typ := range src.types {
		if _, ok := doc[wrongField][typ]; !ok {
			found = append(found, "only the code has "+answer{wrongField, typ, 0}.String())
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestDifferencesOfErrorCodesAreFound(t *testing.T) {
	t.Parallel()
	doc := func(rows ...string) string {
		return "## Any operation\n| `timeout` | 504 | slow | wait |\n## crm\n" + strings.Join(rows, "\n") + "\n## Wrong fields\n## Failed calls\n## Not for clients\n"
	}
	src := &sources{answers: []answer{{everywhere, "timeout", 504}, {"crm", "client_not_found", 404}}}
	tests := []struct {
		name, doc string
		want      []string
	}{
		{"none", doc("| `client_not_found` | 404 | gone | stop |"), nil},
		{"not documented", doc(), []string{"only the code has crm: client_not_found 404"}},
		{"not in the code", doc("| `client_not_found` | 404 | gone | stop |", "| `client_lost` | 404 | gone | stop |"), []string{"only the documentation has crm: client_lost 404"}},
		{"another status", doc("| `client_not_found` | 403 | gone | stop |"), []string{"only the code has crm: client_not_found 404", "only the documentation has crm: client_not_found 403"}},
		{"another section", doc() + "## calls\n| `client_not_found` | 404 | gone | stop |", []string{"only the code has crm: client_not_found 404", "only the documentation has calls: client_not_found 404"}},
		{"an unknown failure of a call", strings.ReplaceAll(doc("| `client_not_found` | 404 | gone | stop |"), "## Failed calls", "## Failed calls\n| `tired` | slow | wait |"),
			[]string{"only the documentation has Failed calls: tired"}},
		{"an unknown type of a field", strings.ReplaceAll(doc("| `client_not_found` | 404 | gone | stop |"), "## Wrong fields", "## Wrong fields\n| `ugly` | odd | mend |"),
			[]string{"only the documentation has Wrong fields: ugly"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			parsed, err := parseErrorsDoc(tt.doc)
			require.NoError(t, err)
			require.Equal(t, tt.want, differences(src, parsed))
		})
	}
	_, err := parseErrorsDoc(doc("| `client_not_found` | gone |"))
	require.Error(t, err)
	_, err = parseErrorsDoc(doc("| `a` | 404 | gone | stop |", "| `a` | 404 | gone | stop |"))
	require.Error(t, err)
}

func TestCodesAreFoundInGoFiles(t *testing.T) {
	t.Parallel()
	const imports = `import ("net/http"; "github.com/convoflow/convoflow/libs/fault"; about "github.com/convoflow/convoflow/services/calls/internal/call")
`
	kinds := `package fault; const ( Internal Kind = iota; Malformed; Unauthenticated; Forbidden; NotFound )`
	codes := `package call; const CodeMissing = "audio_missing"; const codeNotFound = "call_not_found"
func f() { problemOf(fault.New(fault.Internal, "interrupted", "")); problemOf(err); fault.New(fault.NotFound, codeNotFound, "") }`
	tests := []struct {
		name, file, text string
		answers          []answer
		types, unread    []string
	}{
		{"New", "services/crm/a.go", `var err = fault.New(fault.NotFound, "gone", "It is gone")`, []answer{{"crm", "gone", 404}}, nil, nil},
		{"Wrap, deep inside", "libs/x/a.go", `func f() { go func() { _ = fault.Wrap(err, fault.Forbidden, "no", "No").After(1) }() }`, []answer{{everywhere, "no", 403}}, nil, nil},
		{"composite literal", "gateway/a.go", `func f() error { return &fault.Error{Kind: fault.Malformed, Code: "odd"} }`, []answer{{everywhere, "odd", 400}}, nil, nil},
		{"constant", "services/calls/a.go", `const gone = "gone"; var err = fault.New(fault.NotFound, gone, "")`, []answer{{"calls", "gone", 404}}, nil, nil},
		{"code of a failed call", "services/calls/a.go", `var err = fault.New(fault.NotFound, about.CodeMissing, "")`, []answer{{failedCall, "audio_missing", 0}}, nil, nil},
		{"by hand", "gateway/a.go", `func f() { status, code := http.StatusRequestHeaderFieldsTooLarge, "long" }`, []answer{{everywhere, "long", 431}}, nil, nil},
		{"body by hand", "services/crm/a.go", `func f() { if status == http.StatusNotFound { write(map[string]string{"code": "gone"}) } }`, []answer{{"crm", "gone", 404}}, nil, nil},
		{"body by hand of either status", "services/crm/a.go", `func f() { _ = []int{http.StatusNotFound, http.StatusForbidden}; write(map[string]string{"code": "gone"}) }`, []answer{{"crm", "gone", 0}}, nil, nil},
		{"of something else", "services/crm/a.go", `func f() { code := "23505"; other.New(1, "x", "") }`, nil, nil, nil},
		{"code that is given", "libs/x/a.go", `func f(code string) error { return fault.New(fault.NotFound, code, "") }`, nil, nil, []string{"libs/x/a.go: f"}},
		{"kind that is given", "libs/x/a.go", `func f(kind fault.Kind) error { return fault.New(kind, "x", "") }`, nil, nil, []string{"libs/x/a.go: f"}},
		{"types of wrong fields", "libs/x/a.go", `var a, b = fault.Field{Type: "ugly"}, fault.BodyField("name", "odd", "")`, nil, []string{"ugly", "odd"}, nil},
	}
	always := []answer{{failedCall, "interrupted", 0}, {"calls", "call_not_found", 404}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src, err := parseSources(map[string]string{
				"libs/fault/fault.go": kinds, "services/calls/internal/call/problem.go": strings.Replace(codes, ";", "\n"+imports, 1), tt.file: "package x\n" + imports + tt.text,
			})
			require.NoError(t, err)
			require.ElementsMatch(t, append(slices.Clone(always), tt.answers...), src.answers)
			require.Equal(t, tt.types, src.types)
			require.Equal(t, tt.unread, src.unread)
		})
	}
}
