package conf_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
)

func TestOrigins(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"http://calls:8080", "https://api.example.com", "http://[::1]:8080/"} {
		require.True(t, conf.IsOrigin(good), good)
	}
	for _, bad := range []string{"", "calls:8080", "ftp://calls", "http://", "http://:8080", "http://a/b", "http://a//", "http://a?b", "http://a#b", "http://me@a", "http://a b", "*"} {
		require.False(t, conf.IsOrigin(bad), bad)
	}
}
