package guard

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPlacesAreLimitedPerAgentAndPerAddress(t *testing.T) {
	t.Parallel()
	s := NewStreams(2)
	for range MaxStreams {
		require.True(t, s.begin("one", "office"))
	}
	require.False(t, s.begin("one", "office"))
	require.False(t, s.begin("one", "home"), "an agent has one number of places")
	for range MaxStreams {
		require.True(t, s.begin("two", "office"))
	}
	require.False(t, s.begin("three", "office"), "an address has twice as many, however many accounts use it")
	require.True(t, s.begin("three", "home"))
	s.end("one", "office")
	require.True(t, s.begin("three", "office"))
	for range MaxStreams - 1 {
		s.end("one", "office")
	}
	for range MaxStreams {
		s.end("two", "office")
	}
	s.end("three", "office")
	s.end("three", "home")
	require.Empty(t, s.agents)
	require.Empty(t, s.addresses)
}
