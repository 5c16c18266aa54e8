package delivery

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBulkhead(t *testing.T) {
	t.Parallel()
	b := NewBulkhead(8)
	for range 4 {
		require.True(t, b.acquire("slow"), "any endpoint may use half of the workers")
	}
	require.False(t, b.acquire("slow"), "the other half is for others")
	require.True(t, b.acquire("other"))
	require.True(t, b.acquire("other"), "each endpoint may always use a quarter")
	require.False(t, b.acquire("other"))
	b.release("slow")
	require.False(t, b.acquire("slow"))
	b.release("slow")
	b.release("slow")
	require.True(t, b.acquire("slow"))

	one := NewBulkhead(1)
	require.True(t, one.acquire("a"))
	require.False(t, one.acquire("a"))
	one.release("a")
	require.True(t, one.acquire("a"))
}
