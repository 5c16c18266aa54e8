// Package agent owns the users of the platform, sales reps and admins, their sessions and their failed logins: how they
// register, log in, renew a session and lose access. It refuses to know how passwords are hashed, tokens signed and rows
// stored.
package agent

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Limits of the fields of an account.
const (
	maxEmail    = 254 // bytes, RFC 5321 with the erratum 1690 of RFC 3696
	minPassword = 8   // characters
	maxPassword = 128 // characters, of which every byte is hashed
	maxFullName = 200 // characters
)

// Agent is a user of the platform.
type Agent struct {
	ID            string    // UUIDv7
	Version       int64     // increases by one with each change that others see
	Email         string    // in one spelling (package email), unique
	PasswordHash  string    // never shown
	PasswordSetAt time.Time // when the password was chosen; a new hash of the same password does not change it
	FullName      string
	Role          identity.Role
	IsActive      bool // an inactive agent cannot log in and has no sessions
	CreatedAt     time.Time
	UpdatedAt     time.Time
	DeletedAt     *time.Time // nil unless deleted; stores return no deleted agent, but its e-mail remains taken
}

// IsActiveAdmin reports whether the agent can manage other agents.
func (a Agent) IsActiveAdmin() bool { return a.IsActive && a.Role == identity.Admin }

// draft is a new account, cleaned and checked.
type draft struct {
	email, passwordHash, fullName string
	role                          identity.Role
	inactive                      bool
}

// create returns a new agent.
func create(d draft, now time.Time) (Agent, []event.Event) {
	a := Agent{
		ID: event.NewID(), Version: 1, Email: d.email, PasswordHash: d.passwordHash, PasswordSetAt: now, FullName: d.fullName,
		Role: d.role, IsActive: !d.inactive, CreatedAt: now, UpdatedAt: now,
	}
	return a, []event.Event{events.AgentRegistered.New(now, a.payload())}
}

// edit is a change that others see: nil leaves a field as it is.
type edit struct {
	Email, FullName *string
	Role            *identity.Role
	IsActive        *bool
}

// edit changes the agent. An edit that changes nothing has no events.
func (a *Agent) edit(e edit, now time.Time) []event.Event {
	before := *a
	a.Email, a.FullName = or(e.Email, a.Email), or(e.FullName, a.FullName)
	a.Role, a.IsActive = or(e.Role, a.Role), or(e.IsActive, a.IsActive)
	if *a == before {
		return nil
	}
	a.Version++
	a.UpdatedAt = now
	if before.IsActive && !a.IsActive {
		return []event.Event{events.AgentDeactivated.New(now, a.payload())}
	}
	return []event.Event{events.AgentUpdated.New(now, a.payload())}
}

func or[T any](sent *T, otherwise T) T {
	if sent == nil {
		return otherwise
	}
	return *sent
}

// remove deletes the agent: it remains inactive. The event, the last one about the agent, has nothing personal: it stays on a
// compacted topic.
func (a *Agent) remove(now time.Time) []event.Event {
	a.IsActive, a.DeletedAt = false, &now
	a.Version++
	a.UpdatedAt = now
	last := a.payload()
	last.Email, last.FullName = "", ""
	return []event.Event{events.AgentDeactivated.New(now, last)}
}

// setPassword gives the agent a new password. No other service sees it, so there is no event.
func (a *Agent) setPassword(passwordHash string, now time.Time) {
	a.PasswordHash, a.PasswordSetAt = passwordHash, now
}

func (a *Agent) payload() events.Agent {
	return events.Agent{
		AgentID: a.ID, Version: a.Version, Email: a.Email, FullName: a.FullName, Role: string(a.Role),
		IsActive: a.IsActive, CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt,
	}
}

// formerSpelling returns the form in which earlier versions stored e-mail addresses.
func formerSpelling(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// readEmail returns the one spelling of an e-mail address, or what is wrong with it.
func (s *Service) readEmail(text string) (string, []fault.Field) {
	email, ok := s.NormalizeEmail(text)
	switch {
	case len(strings.TrimSpace(text)) > maxEmail:
		return "", []fault.Field{fault.BodyField("email", "string_too_long", fmt.Sprintf("An e-mail address has at most %d bytes", maxEmail))}
	case !ok:
		return "", []fault.Field{fault.BodyField("email", "value_error", "Input should be a valid e-mail address")}
	}
	return email, nil
}

// product is the name of the product, which is among the first guesses of a password.
const product = "convoflow"

// namesAccount reports whether a password has the name of the product in it, or is no more than the account's e-mail address, or its
// local part, with digits and punctuation around it.
func namesAccount(password, email string) bool {
	password = strings.ToLower(password)
	if strings.Contains(strings.Map(letter, password), product) {
		return true
	}
	local, _, _ := strings.Cut(strings.ToLower(email), "@")
	core := bare(password)
	return core != "" && (core == bare(strings.ToLower(email)) || core == bare(local)) || password == local && local != ""
}

func letter(r rune) rune {
	if unicode.IsLetter(r) {
		return r
	}
	return -1
}

// bare trims what is not a letter from both ends of a text.
func bare(text string) string {
	return strings.TrimFunc(text, func(r rune) bool { return !unicode.IsLetter(r) })
}

func checkFullName(text string) []fault.Field { return checkLength("full_name", text, 1, maxFullName) }

// checkName checks the required name of a new account. Requests may send it as full_name or, as older apps do, as name.
func checkName(fullName, name string) []fault.Field {
	if fullName == "" && name == "" {
		return []fault.Field{fault.BodyField("full_name", "missing", "Field required")}
	}
	return checkFullName(pickName(fullName, name))
}

func pickName(fullName, name string) string { return strings.TrimSpace(cmp.Or(fullName, name)) }

// pickNewName returns the name that an update sends as full_name or name; nil if it sends neither.
func pickNewName(fullName, name *string) *string {
	sent := cmp.Or(fullName, name)
	if sent == nil {
		return nil
	}
	trimmed := strings.TrimSpace(*sent)
	return &trimmed
}

func checkNewName(fullName *string) []fault.Field {
	if fullName == nil {
		return nil
	}
	return checkFullName(*fullName)
}

func checkLength(name, text string, least, most int) []fault.Field {
	switch n := utf8.RuneCountInString(text); {
	case n < least:
		return []fault.Field{fault.BodyField(name, "string_too_short", fmt.Sprintf("String should have at least %d characters", least))}
	case n > most:
		return []fault.Field{fault.BodyField(name, "string_too_long", fmt.Sprintf("String should have at most %d characters", most))}
	}
	return nil
}

// NotFound is the fault of an agent that does not exist, or was deleted.
func NotFound() error { return fault.New(fault.NotFound, "agent_not_found", "Agent not found") }

// EmailTaken is the fault of an e-mail address that another account has. A deleted account has it too.
func EmailTaken() error {
	return fault.New(fault.Conflict, "email_taken", "This e-mail address is registered already")
}

// LastAdmin is the fault of a change after which no active admin would be left.
func LastAdmin() error {
	return fault.New(fault.Conflict, "last_admin", "This is the only active admin: make another one first")
}
