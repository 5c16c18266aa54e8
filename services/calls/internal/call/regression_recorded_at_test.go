package call

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A time that leaves the years 1 to 9999 only in UTC once made a call that could not be published, and a 500.
func TestTimesOutsideTheCalendarInUTCAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"} {
		_, err := parseTime(text)
		require.Error(t, err, text)
		_, _, wrong := readDetails(map[string]string{"recorded_at": text})
		require.Len(t, wrong, 1)
		require.Equal(t, "datetime_parsing", wrong[0].Type)
	}
	at, err := parseTime("9999-12-31T23:59:59Z")
	require.NoError(t, err)
	require.Equal(t, 9999, at.Year())
}
