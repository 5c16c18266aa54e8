package patch_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/patch"
)

func TestAFieldIsOmittedNullOrAValue(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]*string{`{}`: new("before"), `{"name":null}`: nil, `{"name":"after"}`: new("after")} {
		var update struct {
			Name patch.Field[string] `json:"name"`
		}
		require.NoError(t, json.Unmarshal([]byte(body), &update))
		name := new("before")
		update.Name.Apply(&name)
		require.Equal(t, want, name, body)
		value, sent := update.Name.Sent()
		require.Equal(t, body != `{}`, sent)
		if sent {
			require.Equal(t, want, value)
		}
	}
	name := new("before")
	patch.Null[string]().Apply(&name)
	require.Nil(t, name)
	patch.Value("x").Apply(&name)
	require.Equal(t, "x", *name)
}

func TestAnUpdateIsForTheExpectedVersions(t *testing.T) {
	t.Parallel()
	require.NoError(t, patch.Check(t.Context(), 7), "any version without an expectation")
	ctx := patch.Expect(t.Context(), []int64{3, 7})
	require.NoError(t, patch.Check(ctx, 7))
	require.Equal(t, http.StatusPreconditionFailed, fault.Status(patch.Check(ctx, 8)))
	require.Error(t, patch.Check(patch.Expect(t.Context(), nil), 7), "nothing can be expected")
}
