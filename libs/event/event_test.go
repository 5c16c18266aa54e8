package event_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
)

func TestIDs(t *testing.T) {
	t.Parallel()
	last := ""
	for range 1000 {
		id := event.NewID()
		require.True(t, event.ValidID(id))
		require.Greater(t, id, last, "new rows go to the end of an index")
		last = id
	}
	for _, bad := range []string{"", "x", "{" + last + "}", "urn:uuid:" + last, strings.ReplaceAll(last, "-", ""), last + " "} {
		require.False(t, event.ValidID(bad), bad)
	}
}
