package analytics

import (
	"slices"
	"sort"
	"time"
	_ "time/tzdata" // the image has no time zones

	"github.com/convoflow/convoflow/libs/fault"
)

// Calendar is consecutive days of a time zone, the last of which is today.
type Calendar struct {
	Days   []time.Time // at noon
	Starts []Slot      // of each day, and last the end of today
	Now    time.Time
}

// zone loads a time zone by its IANA name.
func zone(name string) (*time.Location, error) {
	if name != "Local" && name != "" {
		if loc, err := time.LoadLocation(name); err == nil {
			return loc, nil
		}
	}
	return nil, fault.Fields(fault.Field{Loc: []any{"query", "tz"}, Type: "time_zone", Msg: "Input should be the IANA name of a time zone, such as Asia/Kolkata"})
}

// newCalendar returns the last n days.
func newCalendar(now time.Time, loc *time.Location, n int) Calendar {
	c := Calendar{Now: now}
	year, month, day := now.In(loc).Date()
	for i := n - 1; i >= 0; i-- {
		c.Days = append(c.Days, time.Date(year, month, day-i, 12, 0, 0, 0, loc))
		c.Starts = append(c.Starts, startOf(year, month, day-i, loc))
	}
	c.Starts = append(c.Starts, startOf(year, month, day+1, loc))
	return c
}

// startOf returns the first slot of a day. A day may begin at another time than midnight, or have midnight twice.
func startOf(year int, month time.Month, day int, loc *time.Location) Slot {
	want := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	// Time zones are between UTC-12 and UTC+14.
	from := SlotOf(want) - 15*4
	return from + Slot(sort.Search(28*4, func(i int) bool {
		y, m, d := time.Unix(int64(from+Slot(i))*slotSeconds, 0).In(loc).Date()
		return !time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Before(want)
	}))
}

// index returns the number of the day that a slot is in, or -1.
func (c Calendar) index(s Slot) int {
	if s < c.Starts[0] || s >= c.Starts[len(c.Days)] {
		return -1
	}
	i, found := slices.BinarySearch(c.Starts, s)
	if !found {
		i--
	}
	for i+1 < len(c.Days) && c.Starts[i+1] == s { // a day that the zone skipped is empty
		i++
	}
	return i
}

// Today returns the first slot of today and of tomorrow.
func (c Calendar) Today() (from, to Slot) { return c.Starts[len(c.Days)-1], c.Starts[len(c.Days)] }

// Time returns when a slot begins.
func (s Slot) Time() time.Time { return time.Unix(int64(s)*slotSeconds, 0).UTC() }
