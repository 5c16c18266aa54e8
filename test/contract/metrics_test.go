package contract_test

import (
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every metric is explained in docs/operations.md, and nothing else is.
func TestTheMetricsAreThoseOfThePage(t *testing.T) {
	t.Parallel()
	defined := map[string]bool{}
	literal := regexp.MustCompile(`"(convoflow_[a-z_]+)"`)
	for _, dir := range []string{"gateway", "libs", "services"} {
		tree := os.DirFS("testdata/" + dir)
		require.NoError(t, fs.WalkDir(tree, ".", func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			text, err := fs.ReadFile(tree, name)
			for _, found := range literal.FindAllSubmatch(text, -1) {
				defined[string(found[1])] = true
			}
			return err
		}))
	}
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	explained := map[string]bool{}
	for _, found := range regexp.MustCompile("`(convoflow_[a-z_]+)").FindAllSubmatch(page, -1) {
		explained[string(found[1])] = true
	}
	require.Equal(t, slices.Sorted(maps.Keys(defined)), slices.Sorted(maps.Keys(explained)))
}
