package followup

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Hours returns when the team works.
type Hours func(ctx context.Context) (WorkingHours, error)

// WorkingHours are the working hours of a week.
type WorkingHours struct {
	Zone *time.Location
	Days [7]Shift // by time.Weekday; a week without a working day is taken as one of working days
}

// Shift is the working hours of a day, since midnight. It is zero on a day off.
type Shift struct{ From, To time.Duration }

const (
	defaultDays = 2 // working days after which a task is due in which no time was named
	maxYears    = 5 // a date after more of them is a mistake
)

// The phrases of due dates. Only English is understood; anything else is due after defaultDays.
var (
	number   = `(\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|a couple of|a few)`
	weekday  = `(monday|tuesday|wednesday|thursday|friday|saturday|sunday)`
	month    = `(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)`
	in       = regexp.MustCompile(`\b(?:in|within|after) (?:the next )?` + number + ` (minute|hour|day|week|month|working day|business day)s?\b`)
	fromNow  = regexp.MustCompile(`\b` + number + ` (minute|hour|day|week|month|working day|business day)s? from (?:now|today)\b`)
	relative = regexp.MustCompile(`\b(day after tomorrow|tomorrow|today|tonight|end of (?:the )?day|eod|end of (?:the |this )?week|eow|later this week|this week|end of next week|next week|end of (?:the |this )?month|eom|next month)\b`)
	named    = regexp.MustCompile(`\b(?:(next|this|coming) )?` + weekday + `\b`)
	isoDate  = regexp.MustCompile(`\b(\d{4})-(\d{1,2})-(\d{1,2})\b`)
	numeric  = regexp.MustCompile(`\b(\d{1,2})[/.](\d{1,2})[/.](\d{4})\b`) // the day first
	dayMonth = regexp.MustCompile(`\b(\d{1,2})(?:st|nd|rd|th)?(?: of)? ` + month + `\b\.?(?:,? (\d{4})\b)?`)
	monthDay = regexp.MustCompile(`\b` + month + `\.? (\d{1,2})(?:st|nd|rd|th)?\b(?:,? (\d{4})\b)?`)
	clock12  = regexp.MustCompile(`\b(\d{1,2})(?:[:.](\d{2}))? ?([ap])\.?m\b`)
	clock24  = regexp.MustCompile(`\b([01]?\d|2[0-3]):([0-5]\d)\b`)
	hourOnly = regexp.MustCompile(`\bat (\d{1,2})\b(?: o'?clock\b)?( ?%| percent| per|[.,]\d| ?k\b)?`) // the last is an amount
	partOf   = regexp.MustCompile(`\b(morning|noon|lunch(?:time)?|afternoon|evening|tonight)\b`)
)

// DueDate returns when a task is due according to its text, which was said at that time. It is later than said. A day without a
// time of day is due when work begins on it; today, when work ends.
func DueDate(task string, said time.Time, h WorkingHours) time.Time {
	p := phrase{text: " " + strings.ToLower(strings.Join(strings.Fields(strings.ReplaceAll(task, "’", "'")), " ")), hours: h, said: said.In(h.Zone)}
	p.readTime()
	if due, ok := p.exact(); ok {
		return due.UTC()
	}
	if due, ok := p.due(); ok && due.After(said) {
		return due.UTC()
	}
	return p.hours.opening(p.hours.addWorkingDays(p.said, defaultDays)).UTC()
}

// phrase is a text with what has been read of it.
type phrase struct {
	text   string
	hours  WorkingHours
	said   time.Time      // in the agent's zone
	of     *time.Duration // the time of day that was said, since midnight
	loose  bool           // the day was not named, so that it may be moved to a working day
	closes bool           // the end of the day is meant
}

// exact reads a time that is no day: in 20 minutes, in two hours.
func (p *phrase) exact() (time.Time, bool) {
	n, unit, ok := p.amount()
	switch {
	case ok && unit == "minute":
		return p.said.Add(time.Duration(n) * time.Minute), true
	case ok && unit == "hour":
		return p.said.Add(time.Duration(n) * time.Hour), true
	default:
		return time.Time{}, false
	}
}

// due reads a day and puts the time of day to it.
func (p *phrase) due() (time.Time, bool) {
	day, ok := p.day()
	switch {
	case !ok && p.of == nil:
		return time.Time{}, false
	case !ok: // at 5 pm: the next time that it is
		if due := p.hours.at(p.said, *p.of); due.After(p.said) {
			return due, true
		}
		return p.hours.at(p.said.AddDate(0, 0, 1), *p.of), true
	case p.of != nil:
		return p.hours.at(day, *p.of), true
	}
	if p.loose && !p.hours.works(day) {
		day = p.hours.addWorkingDays(day, 1)
	}
	if p.closes || sameDay(day, p.said) {
		return p.hours.at(day, p.hours.on(day).To), true
	}
	return p.hours.opening(day), true
}

// day reads the day that a phrase names.
func (p *phrase) day() (time.Time, bool) {
	if day, ok := p.date(); ok {
		return day, true
	}
	if n, unit, ok := p.amount(); ok {
		p.loose = true
		switch unit {
		case "working day", "business day":
			return p.hours.addWorkingDays(p.said, n), true
		case "week":
			return p.said.AddDate(0, 0, 7*n), true
		case "month":
			return addMonths(p.said, n), true
		default:
			return p.said.AddDate(0, 0, n), true
		}
	}
	if found := named.FindStringSubmatch(p.text); found != nil {
		return p.weekday(found[1], found[2]), true
	}
	if found := relative.FindStringSubmatch(p.text); found != nil {
		return p.relative(found[1]), true
	}
	return time.Time{}, false
}

func (p *phrase) relative(words string) time.Time {
	p.loose = true
	monday := p.said.AddDate(0, 0, -(int(p.said.Weekday())+6)%7)
	switch {
	case words == "day after tomorrow":
		return p.said.AddDate(0, 0, 2)
	case words == "tomorrow":
		return p.said.AddDate(0, 0, 1)
	case words == "next week":
		return p.hours.workingDay(monday.AddDate(0, 0, 7), 1)
	case words == "end of next week":
		p.loose, p.closes = false, true
		return p.hours.workingDay(monday.AddDate(0, 0, 13), -1)
	case words == "next month":
		return time.Date(p.said.Year(), p.said.Month()+1, 1, 0, 0, 0, 0, p.said.Location())
	case strings.HasSuffix(words, "month"), words == "eom":
		p.loose, p.closes = false, true
		return p.hours.workingDay(time.Date(p.said.Year(), p.said.Month()+1, 0, 0, 0, 0, 0, p.said.Location()), -1)
	case strings.HasSuffix(words, "week"), words == "eow":
		p.loose, p.closes = false, true
		return p.hours.workingDay(monday.AddDate(0, 0, 6), -1)
	default: // today, tonight, end of day
		p.loose, p.closes = false, true
		return p.said
	}
}

// weekday returns the next day of that name; "next friday" is that of the next week, which begins on Monday.
func (p *phrase) weekday(which, name string) time.Time {
	wanted := time.Sunday
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.EqualFold(d.String(), name) {
			wanted = d
		}
	}
	if which == "next" || which == "" && strings.Contains(p.text, "next week") {
		monday := p.said.AddDate(0, 0, 7-(int(p.said.Weekday())+6)%7)
		return monday.AddDate(0, 0, (int(wanted)+6)%7)
	}
	days := (int(wanted) - int(p.said.Weekday()) + 7) % 7
	if days == 0 && which != "this" {
		days = 7
	}
	return p.said.AddDate(0, 0, days)
}

// date reads a date: 2026-12-04, 04/12/2026, 4 December, December 4th. One without a year is the next one.
func (p *phrase) date() (time.Time, bool) {
	if f := isoDate.FindStringSubmatch(p.text); f != nil {
		return p.on(f[1], f[2], f[3])
	}
	if f := numeric.FindStringSubmatch(p.text); f != nil {
		return p.on(f[3], f[2], f[1])
	}
	if f := dayMonth.FindStringSubmatch(p.text); f != nil {
		return p.on(f[3], monthNumber(f[2]), f[1])
	}
	if f := monthDay.FindStringSubmatch(p.text); f != nil {
		return p.on(f[3], monthNumber(f[1]), f[2])
	}
	return time.Time{}, false
}

// on returns a date, if there is one. Without a year it is today or later.
func (p *phrase) on(year, month, day string) (time.Time, bool) {
	y, m, d := p.said.Year(), atoi(month), atoi(day)
	if year != "" {
		y = atoi(year)
	}
	for next := range 2 {
		date := time.Date(y+next, time.Month(m), d, 0, 0, 0, 0, p.said.Location())
		switch {
		case date.Day() != d || m < 1 || m > 12 || date.Year() > p.said.Year()+maxYears:
			return time.Time{}, false
		case year != "", !date.Before(p.said.AddDate(0, 0, -1)), next == 1:
			return date, true
		}
	}
	return time.Time{}, false
}

func monthNumber(name string) string {
	for m := time.January; m <= time.December; m++ {
		if strings.HasPrefix(strings.ToLower(m.String()), name[:3]) {
			return strconv.Itoa(int(m))
		}
	}
	return ""
}

var words = map[string]int{
	"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
	"a couple of": 2, "a few": 3,
}

// amount reads a distance from now: in two weeks, 3 days from now.
func (p *phrase) amount() (n int, unit string, ok bool) {
	f := in.FindStringSubmatch(p.text)
	if f == nil {
		f = fromNow.FindStringSubmatch(p.text)
	}
	if f == nil {
		return 0, "", false
	}
	n, known := words[f[1]]
	if !known {
		n = atoi(f[1])
	}
	return n, f[2], n > 0
}

// readTime reads the time of day.
func (p *phrase) readTime() {
	set := func(hour, minute int) {
		if hour < 24 && minute < 60 {
			p.of = new(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
		}
	}
	if f := clock12.FindStringSubmatch(p.text); f != nil && atoi(f[1]) >= 1 && atoi(f[1]) <= 12 {
		hour := atoi(f[1]) % 12
		if f[3] == "p" {
			hour += 12
		}
		set(hour, atoi(f[2]))
		return
	}
	if f := clock24.FindStringSubmatch(p.text); f != nil {
		set(atoi(f[1]), atoi(f[2]))
		return
	}
	if f := hourOnly.FindStringSubmatch(p.text); f != nil && f[2] == "" {
		hour := atoi(f[1])
		if hour >= 1 && hour < 8 { // nobody calls at 3 in the night
			hour += 12
		}
		set(hour, 0)
		return
	}
	if f := partOf.FindStringSubmatch(p.text); f != nil {
		switch f[1] {
		case "morning":
			p.of = new(p.hours.on(p.said).From)
		case "noon", "lunch", "lunchtime":
			set(12, 0)
		case "afternoon":
			set(15, 0)
		default:
			set(18, 0)
		}
	}
}

func atoi(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}

func sameDay(a, b time.Time) bool { return a.YearDay() == b.YearDay() && a.Year() == b.Year() }

// addMonths adds months. The 31st becomes the last day of a shorter month.
func addMonths(t time.Time, n int) time.Time {
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, t.Hour(), t.Minute(), 0, 0, t.Location())
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}

// at returns a time of that day. A clock change does not move it.
func (h WorkingHours) at(day time.Time, of time.Duration) time.Time {
	return time.Date(day.Year(), day.Month(), day.Day(), int(of/time.Hour), int(of%time.Hour/time.Minute), 0, 0, h.Zone)
}

func (h WorkingHours) opening(day time.Time) time.Time { return h.at(day, h.on(day).From) }

func (h WorkingHours) works(day time.Time) bool {
	return h.Days[day.Weekday()] != Shift{} || h.Days == [7]Shift{}
}

// on returns the hours of a day; of a day off those of the next working day.
func (h WorkingHours) on(day time.Time) Shift {
	for i := range h.Days {
		if s := h.Days[(int(day.Weekday())+i)%len(h.Days)]; s != (Shift{}) {
			return s
		}
	}
	return Shift{From: 9 * time.Hour, To: 18 * time.Hour}
}

// addWorkingDays returns the n-th working day after a day.
func (h WorkingHours) addWorkingDays(day time.Time, n int) time.Time {
	for ; n > 0; n-- {
		day = h.workingDay(day.AddDate(0, 0, 1), 1)
	}
	return day
}

// workingDay returns the day itself if it is a working day, and otherwise the next one in that direction.
func (h WorkingHours) workingDay(day time.Time, direction int) time.Time {
	for !h.works(day) {
		day = day.AddDate(0, 0, direction)
	}
	return day
}
