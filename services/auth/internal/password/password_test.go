package password

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/trustelem/zxcvbn/frequency"

	"github.com/convoflow/convoflow/libs/fault"
)

func TestHashIsPHC(t *testing.T) {
	t.Parallel()
	h := NewHasher(2)
	one, err := h.Hash(t.Context(), "tangerine-otter")
	require.NoError(t, err)
	require.Regexp(t, `^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, one)
	other, err := h.Hash(t.Context(), "tangerine-otter")
	require.NoError(t, err)
	require.NotEqual(t, one, other, "each has a salt of its own")
}

func TestVerifyCountsEveryByte(t *testing.T) {
	t.Parallel()
	h := NewHasher(2)
	longest := strings.Repeat("é", 127) + "ê"
	for _, password := range []string{"12345678", longest, strings.Repeat("x", 128)} {
		hash, err := h.Hash(t.Context(), password)
		require.NoError(t, err)
		for tried, want := range map[string]bool{
			password:                   true,
			password[:len(password)-1]: false,
			password + " ":             false,
			flipLastBit(password):      false,
			"":                         false,
		} {
			got, err := h.Verify(t.Context(), hash, tried)
			require.NoError(t, err)
			require.Equal(t, want, got, "%d bytes against %d", len(tried), len(password))
		}
	}
}

func flipLastBit(s string) string {
	b := []byte(s)
	b[len(b)-1] ^= 1
	return string(b)
}

// The vector is from the tests of the reference implementation, https://github.com/P-H-C/phc-winner-argon2/blob/master/src/test.c.
func TestVerifyHonoursTheParametersOfTheHash(t *testing.T) {
	t.Parallel()
	h := NewHasher(1)
	const hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	right, err := h.Verify(t.Context(), hash, "password")
	require.NoError(t, err)
	require.True(t, right)
	right, err = h.Verify(t.Context(), hash, "passwore")
	require.NoError(t, err)
	require.False(t, right)
}

func TestTheEmptyHashMatchesNoPassword(t *testing.T) {
	t.Parallel()
	right, err := NewHasher(1).Verify(t.Context(), "", "password")
	require.NoError(t, err)
	require.False(t, right)
}

func TestVerifyRefusesOtherHashes(t *testing.T) {
	t.Parallel()
	h := NewHasher(1)
	good, err := h.Hash(t.Context(), "password")
	require.NoError(t, err)
	short := base64.RawStdEncoding.EncodeToString([]byte("short"))
	for _, bad := range []string{
		"plain text", "$2b$12$abcdefghijklmnopqrstuuJ", "$2x$04$abcdefghijklmnopqrstuuJ", strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "t=2", "t=0", 1), strings.Replace(good, "p=1", "p=0", 1), strings.Replace(good, "m=", "x=", 1),
		good[:strings.LastIndex(good, "$")], good[:strings.LastIndex(good, "$")+1], good[:strings.LastIndex(good, "$")+1] + short, good + "!", good + "$",
	} {
		_, err := h.Verify(t.Context(), bad, "password")
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), bad)
	}
}

// The vectors are from the tests of Openwall's crypt_blowfish, http://www.openwall.com/crypt/: wrapper.c.
func TestVerifyBcrypt(t *testing.T) {
	t.Parallel()
	h := NewHasher(1)
	for hash, password := range map[string]string{
		"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW": "U*U",
		"$2y$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK": "U*U*",
		"$2b$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a": "U*U*U",
	} {
		right, err := h.Verify(t.Context(), hash, password)
		require.NoError(t, err)
		require.True(t, right, hash)
		right, err = h.Verify(t.Context(), hash, password+"x")
		require.NoError(t, err)
		require.False(t, right)
		require.True(t, h.Outdated(hash))
	}
}

// "é" is one character on a computer and two on some phones.
func TestTheNormalFormOfAPasswordCounts(t *testing.T) {
	t.Parallel()
	h := NewHasher(2)
	composed, decomposed := "caf\u00e9 au lait", "cafe\u0301 au lait"
	for _, chosen := range []string{composed, decomposed} {
		hash, err := h.Hash(t.Context(), chosen)
		require.NoError(t, err)
		for tried, want := range map[string]bool{composed: true, decomposed: true, "cafe au lait": false} {
			right, err := h.Verify(t.Context(), hash, tried)
			require.NoError(t, err)
			require.Equal(t, want, right, "%q against %q", tried, chosen)
		}
	}
	old := digest{memory: 256, passes: 1, threads: 1, salt: make([]byte, saltLength)}
	old.sum = old.of(decomposed, sumLength)
	right, err := h.Verify(t.Context(), old.String(), decomposed)
	require.NoError(t, err)
	require.True(t, right, "a hash of the version before")
}

func TestOutdated(t *testing.T) {
	t.Parallel()
	h := NewHasher(1)
	hash, err := h.Hash(t.Context(), "tangerine-otter")
	require.NoError(t, err)
	require.False(t, h.Outdated(hash))
	require.True(t, h.Outdated(strings.Replace(hash, "t=2", "t=1", 1)))
}

func TestCommon(t *testing.T) {
	t.Parallel()
	h := NewHasher(1)
	require.GreaterOrEqual(t, len(frequency.FrequencyLists["passwords"]), 10_000)
	for _, p := range []string{"password", "PassWord", "12345678", "qwertyuiop", "baseball", "1q2w3e4r5t"} {
		require.True(t, h.Common(p), p)
	}
	for _, p := range []string{"tangerine-otter", "correct horse", "", strings.Repeat("é", 128)} {
		require.False(t, h.Common(p), p)
	}
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	h := NewHasher(1)
	h.cores <- struct{}{} // the one core is busy
	h.admitted <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, maxWaiting)
	for range maxWaiting {
		go func() {
			_, err := h.Hash(ctx, "password")
			ended <- err
		}()
	}
	require.Eventually(t, func() bool { return len(h.admitted) == 1+maxWaiting }, time.Minute, time.Millisecond)

	_, err := h.Hash(t.Context(), "password")
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Equal(t, "busy", fault.Of(err).Code)
	require.Equal(t, time.Second, fault.Of(err).RetryAfter)
	_, err = h.Verify(t.Context(), "", "password")
	require.Equal(t, "busy", fault.Of(err).Code)

	cancel()
	for range maxWaiting {
		require.ErrorIs(t, <-ended, context.Canceled)
	}
	<-h.cores
	<-h.admitted
	_, err = h.Hash(t.Context(), "password")
	require.NoError(t, err, "places are given back")
}

func BenchmarkHash(b *testing.B) {
	h := NewHasher(1)
	for b.Loop() {
		if _, err := h.Hash(b.Context(), "tangerine-otter"); err != nil {
			b.Fatal(err)
		}
	}
}
