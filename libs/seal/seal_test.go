package seal_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/seal"
)

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	box, err := seal.New("0123456789abcdefghijklmnopqrstuvwxyz", "test")
	require.NoError(t, err)
	sealed := box.Seal([]byte("https://pabbly.example/secret"), "endpoints/1/url")
	require.NotContains(t, string(sealed), "pabbly")
	require.NotEqual(t, sealed, box.Seal([]byte("https://pabbly.example/secret"), "endpoints/1/url"))
	text, err := box.Open(sealed, "endpoints/1/url")
	require.NoError(t, err)
	require.Equal(t, "https://pabbly.example/secret", string(text))

	_, err = box.Open(sealed, "endpoints/2/url")
	require.ErrorIs(t, err, seal.ErrOpen, "moved to another row")
	for i := range sealed {
		changed := slices.Clone(sealed)
		changed[i] ^= 1
		_, err = box.Open(changed, "endpoints/1/url")
		require.ErrorIs(t, err, seal.ErrOpen, "byte %d", i)
	}
	_, err = box.Open(sealed[:10], "endpoints/1/url")
	require.ErrorIs(t, err, seal.ErrOpen)
	other, err := seal.New("another-key", "test")
	require.NoError(t, err)
	_, err = other.Open(sealed, "endpoints/1/url")
	require.ErrorIs(t, err, seal.ErrOpen)
	other, err = seal.New("0123456789abcdefghijklmnopqrstuvwxyz", "another purpose")
	require.NoError(t, err)
	_, err = other.Open(sealed, "endpoints/1/url")
	require.ErrorIs(t, err, seal.ErrOpen)
}
