package seal_test

import (
	"encoding/hex"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/seal"
)

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	box, err := seal.New("0123456789abcdefghijklmnopqrstuvwxyz", "", "test")
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
	other, err := seal.New("another-key", "", "test")
	require.NoError(t, err)
	_, err = other.Open(sealed, "endpoints/1/url")
	require.ErrorIs(t, err, seal.ErrOpen)
	other, err = seal.New("0123456789abcdefghijklmnopqrstuvwxyz", "", "another purpose")
	require.NoError(t, err)
	_, err = other.Open(sealed, "endpoints/1/url")
	require.ErrorIs(t, err, seal.ErrOpen)
}

// What was sealed or signed by an earlier version must remain readable: its keys never change.
func TestKeysRemainTheSame(t *testing.T) {
	t.Parallel()
	const secretKey = "7Qm2xV9pLr4TzW8kYb3NcF6hJd1SgA5e"
	for purpose, want := range map[string]string{
		"convoflow auth failed logins v1": "e6ce270530749ed9f277b1b77edca74ba7cbc6c3d4579631908769425f24763c",
		"convoflow calls audio links v1":  "13ecc36d3e0acfcf7cc73088a5b6071527b0f3d561e26bb54d317a4f92242013",
	} {
		key, err := seal.DeriveKey(secretKey, purpose)
		require.NoError(t, err)
		require.Equal(t, want, hex.EncodeToString(key), purpose)
	}
	box, err := seal.New(secretKey, "", "convoflow notify endpoints v1")
	require.NoError(t, err)
	sealed, err := hex.DecodeString("01b61b9d3bf7cf27daba83a570fb9e0e562db64c46257f514856132a5697af94d056721c57d0acbd6ffbf6796d17609905b165cdc701d1c40ab039de938cf79c6d")
	require.NoError(t, err)
	text, err := box.Open(sealed, "endpoints/1/url")
	require.NoError(t, err)
	require.Equal(t, "https://example.com/hook", string(text))
}

func TestASecretIsReplaced(t *testing.T) {
	t.Parallel()
	const place = "endpoints/1/url"
	make := func(secret, previous string) *seal.Box {
		box, err := seal.New(secret, previous, "test")
		require.NoError(t, err)
		return box
	}
	before, both, after := make("old", ""), make("new", "old"), make("new", "")
	sealed := before.Seal([]byte("text"), place)
	text, err := both.Open(sealed, place)
	require.NoError(t, err)
	require.Equal(t, "text", string(text))
	_, err = before.Open(both.Seal([]byte("text"), place), place)
	require.ErrorIs(t, err, seal.ErrOpen, "the new secret seals")

	resealed, changed, err := both.Reseal(sealed, place)
	require.NoError(t, err)
	require.True(t, changed)
	text, err = after.Open(resealed, place)
	require.NoError(t, err)
	require.Equal(t, "text", string(text))
	again, changed, err := both.Reseal(resealed, place)
	require.NoError(t, err)
	require.False(t, changed)
	require.Equal(t, resealed, again)
	for _, box := range []*seal.Box{after, make("new", "another")} {
		_, _, err = box.Reseal(sealed, place)
		require.ErrorIs(t, err, seal.ErrOpen)
	}
	_, _, err = both.Reseal(sealed, "endpoints/2/url")
	require.ErrorIs(t, err, seal.ErrOpen)
}
