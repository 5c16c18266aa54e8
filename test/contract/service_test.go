package contract_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api"
)

// All comparisons of routes, contract, gateway and policies start from this list: a service that is not in it would not be
// compared.
func TestEveryServiceIsInTheContract(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, api.Services(), append(list(t, "testdata/services"), "gateway"), "services/")
	var described []string
	for _, file := range list(t, "testdata/api") {
		name, isYAML := strings.CutSuffix(file, ".yaml")
		if isYAML && name != "common" && name != "asyncapi" {
			described = append(described, name)
		}
	}
	require.ElementsMatch(t, api.Services(), described, "api/*.yaml")
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
