package patch_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/services/crm/internal/patch"
)

func TestLeftOutIsNotNull(t *testing.T) {
	t.Parallel()
	var body struct{ A, B, C patch.Text }
	require.NoError(t, json.Unmarshal([]byte(`{"B": null, "C": "new"}`), &body))
	old := "old"
	require.Equal(t, &old, body.A.Over(&old), "left out stays")
	require.Nil(t, body.B.Over(&old), "null clears")
	require.Equal(t, "new", *body.C.Over(&old))
	require.Nil(t, body.A.Over(nil))
}
