// Package client owns the customers of each agent: who they are and how to reach them. It refuses the same person twice
// for one agent, and phone numbers that cannot be dialled.
package client

import (
	"strings"
	"time"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/text"
)

// Client is a customer of one agent. Its JSON is that of the API.
type Client struct {
	ID      string `json:"id"`
	AgentID string `json:"agent_id"`
	Fields
	Version   int64     `json:"-"` // increases by one with each change
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Fields are the fields of a client that an agent writes.
type Fields struct {
	Name    string  `json:"name"`
	Email   *string `json:"email"` // unique per agent, regardless of case
	Phone   *string `json:"phone"` // normalized to E.164, unique per agent
	Company *string `json:"company"`
	Notes   *string `json:"notes"`
}

// NormalizePhone converts a phone number to E.164; ok is false for an invalid number.
type NormalizePhone func(number string) (e164 string, ok bool)

// cleaned trims every field, turns blank ones into nil, and normalizes the phone. Its error lists all invalid fields.
func (f Fields) cleaned(normalize NormalizePhone) (Fields, error) {
	out := Fields{Name: strings.TrimSpace(f.Name), Email: text.Trimmed(f.Email), Phone: text.Trimmed(f.Phone), Company: text.Trimmed(f.Company), Notes: text.Trimmed(f.Notes)}
	var wrong []fault.Field
	if out.Name == "" {
		wrong = append(wrong, fault.BodyField("name", "string_too_short", "String should have at least 1 character that is not a space"))
	}
	if out.Email != nil && !text.IsEmail(*out.Email) {
		wrong = append(wrong, fault.BodyField("email", "value_error", "Input should be a valid e-mail address"))
	}
	if out.Phone != nil {
		e164, ok := normalize(*out.Phone)
		if !ok {
			wrong = append(wrong, fault.BodyField("phone", "phone_number", "Input should be a phone number, with its country code when it is a foreign one"))
		}
		out.Phone = &e164
	}
	if len(wrong) > 0 {
		return Fields{}, fault.Fields(wrong...)
	}
	return out, nil
}

func create(agentID string, f Fields, now time.Time) (Client, event.Event) {
	c := Client{ID: event.NewID(), AgentID: agentID, Fields: f, Version: 1, CreatedAt: now, UpdatedAt: now}
	return c, events.ClientCreated.New(now, c.state())
}

func (c *Client) edit(f Fields, now time.Time) event.Event {
	c.Fields = f
	c.Version++
	c.UpdatedAt = now
	return events.ClientUpdated.New(now, c.state())
}

// erase returns the event that makes every other service delete the client too, or pass what it has to another client. It has
// no personal data.
func (c *Client) erase(mergedInto *string, now time.Time) event.Event {
	c.Version++
	return events.ClientDeleted.New(now, events.Client{
		ClientID: c.ID, Version: c.Version, AgentID: c.AgentID, MergedInto: mergedInto, CreatedAt: c.CreatedAt, UpdatedAt: now,
	})
}

// maxNotes is the maximum length of notes, in characters.
const maxNotes = 10_000

// filled returns the fields with those of another client of the same person where they are empty. Notes of both remain.
func (f Fields) filled(from Fields) Fields {
	for _, field := range []struct{ to, from **string }{{&f.Email, &from.Email}, {&f.Phone, &from.Phone}, {&f.Company, &from.Company}} {
		if *field.to == nil {
			*field.to = *field.from
		}
	}
	switch {
	case f.Notes == nil:
		f.Notes = from.Notes
	case from.Notes != nil && *from.Notes != *f.Notes:
		f.Notes = new(text.First(*f.Notes+"\n\n"+*from.Notes, maxNotes))
	}
	return f
}

func (c *Client) state() events.Client {
	return events.Client{
		ClientID: c.ID, Version: c.Version, AgentID: c.AgentID, Name: c.Name, Email: c.Email, Phone: c.Phone, Company: c.Company,
		CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt,
	}
}

func (c *Client) checkAccess(caller identity.Caller) error {
	if !caller.MaySee(c.AgentID) {
		return fault.New(fault.Forbidden, "client_forbidden", "This client belongs to another agent")
	}
	return nil
}

// NotFound is the fault of a client that does not exist.
func NotFound() error { return fault.New(fault.NotFound, "client_not_found", "Client not found") }

const codeExists = "client_exists"

// Exists is the fault of a phone or e-mail that another client of the agent already has.
func Exists(clientID string) error {
	return fault.New(fault.Conflict, codeExists, "A client with this phone or e-mail exists already").With("client_id", clientID)
}
