package followup

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/page"
)

// Calendars stores the addresses of calendars. A token is stored as its SHA-256.
type Calendars interface {
	// Create stores the token of an agent's calendar, in place of an earlier one.
	Create(ctx context.Context, agentID string, hash []byte, now time.Time) error
	// Find returns the agent of a token. It fails with CalendarNotFound, also if the agent is no longer active.
	Find(ctx context.Context, hash []byte) (agentID string, err error)
	// Remove removes the token of an agent. It succeeds if there is none.
	Remove(ctx context.Context, agentID string) error
}

// CalendarNotFound is the fault of a calendar whose token is wrong or was revoked.
func CalendarNotFound() error {
	return fault.New(fault.NotFound, "calendar_not_found", "Calendar not found: its address was wrong, or has been replaced or revoked")
}

// CalendarToken is the address of a calendar. It cannot be read again.
type CalendarToken struct {
	Token string `json:"token"`
	Path  string `json:"path"` // at the API's address
}

// CreateCalendarToken makes an address for the caller's follow-ups in calendar apps. An earlier address stops working.
func (s *Service) CreateCalendarToken(ctx context.Context, _ struct{}) (CalendarToken, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return CalendarToken{}, err
	}
	token := rand.Text()
	if err := s.Calendars.Create(ctx, caller.AgentID, hashed(token), s.Clock.Now()); err != nil {
		return CalendarToken{}, err
	}
	return CalendarToken{Token: token, Path: "/followups.ics?token=" + token}, nil
}

// RemoveCalendarToken revokes the address of the caller's calendar.
func (s *Service) RemoveCalendarToken(ctx context.Context, _ struct{}) (struct{}, error) {
	caller, err := identity.From(ctx)
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, s.Calendars.Remove(ctx, caller.AgentID)
}

func hashed(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// CalendarRequest is the address of a calendar.
type CalendarRequest struct {
	Token string `query:"token"`
}

// Calendar is a calendar in the format of RFC 5545.
type Calendar string

const (
	maxEvents = 1000                // of a calendar
	maxAge    = 90 * 24 * time.Hour // of what is overdue
	eventSlot = 30 * time.Minute    // that a follow-up takes in a calendar
)

// Calendar returns the agent's pending follow-ups that have a date.
func (s *Service) Calendar(ctx context.Context, r CalendarRequest) (Calendar, error) {
	agentID, err := s.Calendars.Find(ctx, hashed(r.Token))
	if err != nil {
		return "", err
	}
	now := s.Clock.Now()
	since := now.Add(-maxAge)
	found, err := s.FollowUps.List(ctx, Filter{AgentID: agentID, Now: now, ListRequest: ListRequest{
		Status: Pending, DueAfter: &since, Request: page.Request{Limit: maxEvents},
	}})
	if err != nil {
		return "", err
	}
	hours, err := s.Hours(ctx)
	if err != nil {
		return "", err
	}
	return render(found.Items, hours.Zone), nil
}

// render writes follow-ups as VEVENTs: Google's calendar does not show VTODOs of a subscription, and Apple's shows them elsewhere.
func render(all []FollowUp, zone *time.Location) Calendar {
	var b strings.Builder
	line := func(name, value string) { b.WriteString(fold(name + ":" + value)) }
	line("BEGIN", "VCALENDAR")
	line("VERSION", "2.0")
	line("PRODID", "-//Convoflow//Follow-ups//EN")
	line("CALSCALE", "GREGORIAN")
	line("METHOD", "PUBLISH")
	line("X-WR-CALNAME", "Convoflow follow-ups")
	line("X-WR-TIMEZONE", zone.String()) // in which to show it; the times are UTC
	line("REFRESH-INTERVAL;VALUE=DURATION", "PT15M")
	for _, x := range all {
		if x.DueDate == nil {
			continue
		}
		summary := "Follow-up"
		if x.Task != nil {
			summary = *x.Task
		}
		line("BEGIN", "VEVENT")
		line("UID", x.ID+"@convoflow")
		line("DTSTAMP", stamp(x.UpdatedAt))
		line("LAST-MODIFIED", stamp(x.UpdatedAt))
		line("SEQUENCE", strconv.FormatInt(x.Version, 10))
		line("DTSTART", stamp(*x.DueDate))
		line("DTEND", stamp(x.DueDate.Add(eventSlot)))
		line("SUMMARY", escape(summary))
		if x.Notes != nil {
			line("DESCRIPTION", escape(*x.Notes))
		}
		line("TRANSP", "TRANSPARENT")
		line("END", "VEVENT")
	}
	line("END", "VCALENDAR")
	return Calendar(b.String())
}

func stamp(t time.Time) string { return t.UTC().Format("20060102T150405Z") }

// escape writes a TEXT value: RFC 5545, section 3.3.11. Control characters are not allowed in it.
func escape(value string) string {
	value = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(value)
	var b strings.Builder
	for _, r := range value {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\\' || r == ';' || r == ',':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' && r != '\t' || r == 0x7f:
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// maxLine is the maximum length of a line in bytes, without its end.
const maxLine = 75

// fold breaks a content line into lines of at most maxLine bytes, not inside of a character: RFC 5545, section 3.1.
func fold(content string) string {
	var b strings.Builder
	room := maxLine
	for len(content) > 0 {
		_, size := utf8.DecodeRuneInString(content)
		if size > room {
			b.WriteString("\r\n ")
			room = maxLine - 1
		}
		b.WriteString(content[:size])
		content, room = content[size:], room-size
	}
	b.WriteString("\r\n")
	return b.String()
}
