package gateway

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api"
)

// The table and the contract say the same: which operations there are, whose they are and who may call them.
func TestTheTableOfRoutesIsTheContract(t *testing.T) {
	t.Parallel()
	type row struct{ Pattern, Service, Access string }
	documented := map[string]row{}
	for _, service := range api.Services() {
		raw, err := api.Document(service)
		require.NoError(t, err)
		var doc struct {
			Paths map[string]map[string]struct {
				ID     string `json:"operationId"`
				Access string `json:"x-access"`
			}
		}
		require.NoError(t, json.Unmarshal(raw, &doc))
		for path, item := range doc.Paths {
			for method, op := range item {
				documented[op.ID] = row{strings.ToUpper(method) + " " + path, service, op.Access}
			}
		}
	}
	routed := map[string]row{}
	for _, r := range routes(0) {
		require.NotContains(t, routed, r.op, "an operation has two rows")
		routed[r.op] = row{r.pattern, r.service, string(r.access)}
	}
	require.Empty(t, cmp.Diff(documented, routed), "- in the contract, + in routes.go")
}
