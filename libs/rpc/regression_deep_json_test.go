package rpc

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A body of 20 kB once took 750 MB of memory: every level copied the path to it.
func TestDeepJSONIsRefusedBeforeItIsDecoded(t *testing.T) {
	t.Parallel()
	nested := func(n int) []byte { return []byte(strings.Repeat(`{"a":[`, n) + strings.Repeat(`]}`, n)) }
	require.Equal(t, 2*9900, depth(nested(9900)))
	require.Equal(t, 1, depth([]byte(`{"a":"[[[[\\\"[["}`)), "brackets in strings do not count")
	require.LessOrEqual(t, depth(nested(maxDepth/2)), maxDepth)
	require.Greater(t, depth(nested(maxDepth/2+1)), maxDepth)
}
