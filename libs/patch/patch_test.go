package patch_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

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
