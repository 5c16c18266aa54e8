package analytics

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// zones have half hours, quarters, midnights that do not exist or come twice, and a day that was skipped.
var zones = []string{
	"UTC", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "America/Havana", "Africa/Cairo", "Asia/Beirut",
	"America/Sao_Paulo", "Pacific/Apia", "Pacific/Kiritimati", "Europe/London",
}

func TestEachSlotIsOfTheDayOfItsZone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		loc, err := zone(rapid.SampledFrom(zones).Draw(t, "zone"))
		require.NoError(t, err)
		first := int64(1_262_304_000) // 2010
		if loc.String() == "America/St_Johns" {
			first = 1_356_998_400 // 2013: until 2011 its clocks were put back at 00:01, so that one minute of a day came before the end of the last
		}
		now := time.Unix(rapid.Int64Range(first, 1_893_456_000).Draw(t, "now"), 0) // to 2030
		days := rapid.IntRange(1, 365).Draw(t, "days")
		c := newCalendar(now, loc, days)
		require.Len(t, c.Days, days)
		require.Equal(t, now.In(loc).Format(isoDate), c.Days[days-1].Format(isoDate))
		for range 20 {
			s := Slot(rapid.IntRange(int(c.Starts[0]), int(c.Starts[days])-1).Draw(t, "slot"))
			require.Equal(t, s.Time().In(loc).Format(isoDate), c.Days[c.index(s)].Format(isoDate), "%s", s.Time())
		}
		require.Equal(t, -1, c.index(c.Starts[0]-1))
		require.Equal(t, -1, c.index(c.Starts[days]))
	})
}

func TestSlotsBefore1970(t *testing.T) {
	t.Parallel()
	day, slot := SlotOf(time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC)).Day()
	require.EqualValues(t, -1, day)
	require.Equal(t, 95, slot)
}
