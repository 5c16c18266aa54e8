package followup

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// office is a week from Monday to Friday in a zone that is not UTC.
func office(t rapid.TB) WorkingHours {
	t.Helper()
	day := Shift{From: 9*time.Hour + 30*time.Minute, To: 18 * time.Hour}
	return WorkingHours{Zone: time.FixedZone("IST", 5*3600+1800), Days: [7]Shift{{}, day, day, day, day, day, {}}}
}

func TestDueDatesAreWhatWasSaid(t *testing.T) {
	t.Parallel()
	h := office(t)
	said := time.Date(2026, 11, 24, 15, 0, 0, 0, h.Zone) // a Tuesday
	for task, want := range map[string]string{
		"Send the offer by Friday":         "2026-11-27 09:30",
		"Send the offer on friday at 4pm":  "2026-11-27 16:00",
		"Call back tomorrow at 5 pm":       "2026-11-25 17:00",
		"Call back tomorrow at 17:30":      "2026-11-25 17:30",
		"Call back tomorrow at 5":          "2026-11-25 17:00",
		"Call back tomorrow at 9 o'clock":  "2026-11-25 09:00",
		"Call tomorrow morning":            "2026-11-25 09:30",
		"Call tomorrow afternoon":          "2026-11-25 15:00",
		"Call by noon tomorrow":            "2026-11-25 12:00",
		"Ring them the day after tomorrow": "2026-11-26 09:30",
		"Reply today":                      "2026-11-24 18:00",
		"Reply by end of day":              "2026-11-24 18:00",
		"Reply tonight":                    "2026-11-24 18:00",
		"Call at 5 pm":                     "2026-11-24 17:00",
		"Call at 10 am":                    "2026-11-25 10:00",
		"Meet next week":                   "2026-11-30 09:30",
		"Meet next Friday":                 "2026-12-04 09:30",
		"Meet on Friday next week":         "2026-12-04 09:30",
		"Meet on Tuesday":                  "2026-12-01 09:30",
		"Finish this week":                 "2026-11-27 18:00",
		"Finish by the end of the week":    "2026-11-27 18:00",
		"Finish by end of next week":       "2026-12-04 18:00",
		"Finish by the end of the month":   "2026-11-30 18:00",
		"Start next month":                 "2026-12-01 09:30",
		"Call in two days":                 "2026-11-26 09:30",
		"Call in 4 days":                   "2026-11-30 09:30", // a Saturday is no working day
		"Call in 4 days at 11:00":          "2026-11-28 11:00", // but it was named with a time
		"Call in 3 working days":           "2026-11-27 09:30",
		"Call in a week":                   "2026-12-01 09:30",
		"Call three weeks from now":        "2026-12-15 09:30",
		"Call in a month":                  "2026-12-24 09:30",
		"Call within a couple of days":     "2026-11-26 09:30",
		"Call in an hour":                  "2026-11-24 16:00",
		"Call in 20 minutes":               "2026-11-24 15:20",
		"Send it by 2026-12-04":            "2026-12-04 09:30",
		"Send it by 04/12/2026":            "2026-12-04 09:30",
		"Send it by the 4th of December":   "2026-12-04 09:30",
		"Send it by 4 Dec at 3pm":          "2026-12-04 15:00",
		"Send it by December 4th, 2026":    "2026-12-04 09:30",
		"Send it by January 5":             "2027-01-05 09:30",
		"Meet on Saturday":                 "2026-11-28 09:30", // named
		"Send the offer":                   "2026-11-26 09:30",
		"Send 2 offers at 10 percent off":  "2026-11-26 09:30",
		"Maybe they march on":              "2026-11-26 09:30",
		"Send it by 2020-01-01":            "2026-11-26 09:30", // past
		"Send it by 9999-12-31":            "2026-11-26 09:30",
		"Send it by 30 February":           "2026-11-26 09:30",
		"":                                 "2026-11-26 09:30",
		"भेजो":                             "2026-11-26 09:30",
	} {
		require.Equal(t, want, DueDate(task, said, h).In(h.Zone).Format("2006-01-02 15:04"), task)
	}
	friday := time.Date(2026, 11, 27, 19, 0, 0, 0, h.Zone)
	for task, want := range map[string]string{
		"Send the offer": "2026-12-01 09:30", // two working days on
		"Reply today":    "2026-12-01 09:30", // work has ended
		"Call tomorrow":  "2026-11-30 09:30",
		"Call on Friday": "2026-12-04 09:30",
		"Call next week": "2026-11-30 09:30",
	} {
		require.Equal(t, want, DueDate(task, friday, h).In(h.Zone).Format("2006-01-02 15:04"), task)
	}
}

func TestDueDatesFollowTheClocksOfTheZone(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	h := office(t)
	h.Zone = berlin
	said := time.Date(2026, 10, 24, 12, 0, 0, 0, berlin) // the day before summer time ends
	require.Equal(t, "2026-10-26T16:00:00Z", DueDate("Call on Monday at 5 pm", said, h).Format(time.RFC3339))
	require.Equal(t, "2026-10-24T15:00:00Z", DueDate("Call at 5 pm", said, h).Format(time.RFC3339))
}

// Any text has a due date that is later, within a few years, and in UTC; without a time of day it is in working hours.
func TestEveryTextHasADueDate(t *testing.T) {
	t.Parallel()
	words := []string{
		"call", "by", "on", "at", "in", "the", "next", "this", "end of", "week", "month", "day", "days", "friday", "saturday", "tomorrow", "today", "tonight",
		"2", "31", "12", "5 pm", "17:30", "99:99", "4th", "december", "may", "30 february", "2026-12-04", "2026-99-99", "31/12/2026", "999", "a", "ten", "hours",
		"working days", "from now", "noon", "morning", "eod", "eow", "eom", "’", "\x00", "%",
	}
	rapid.Check(t, func(t *rapid.T) {
		var task string
		for _, w := range rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(words), rapid.String()), 0, 8).Draw(t, "words") {
			task += w + " "
		}
		h := office(t)
		said := time.Unix(rapid.Int64Range(1_700_000_000, 2_000_000_000).Draw(t, "said"), 0)
		for d := range h.Days {
			h.Days[d] = rapid.SampledFrom([]Shift{{}, h.on(said)}).Draw(t, "hours")
		}
		due := DueDate(task, said, h)
		require.True(t, due.After(said), "%q said at %s is due at %s", task, said, due)
		require.Less(t, due.Sub(said), 90*366*24*time.Hour, task) // in 999 months
		require.Equal(t, time.UTC, due.Location())
	})
}

func TestEachDayHasItsHours(t *testing.T) {
	t.Parallel()
	h := office(t)
	h.Days[time.Friday] = Shift{From: 8 * time.Hour, To: 13 * time.Hour}
	said := time.Date(2026, 11, 24, 15, 0, 0, 0, h.Zone) // a Tuesday
	for task, want := range map[string]string{
		"Send it by Friday": "2026-11-27 08:00", "Finish by the end of the week": "2026-11-27 13:00", "Meet on Saturday": "2026-11-28 09:30",
		"Meet on Monday": "2026-11-30 09:30",
	} {
		require.Equal(t, want, DueDate(task, said, h).In(h.Zone).Format("2006-01-02 15:04"), task)
	}
	none := WorkingHours{Zone: time.UTC}
	require.Equal(t, "2026-11-26T09:00:00Z", DueDate("Send it", said, none).Format(time.RFC3339))
}
