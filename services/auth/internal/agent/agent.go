// Package agent is who uses the platform: sales reps and their admins, how they register and how they log in. It owns what
// an agent and a login are; it refuses to know how passwords are hashed, tokens signed and rows kept.
package agent

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/convoflow/convoflow/libs/contract"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

// Limits of what an agent may choose.
const (
	maxEmail    = 254 // bytes, RFC 5321 with the erratum 1690 of RFC 3696
	minPassword = 8   // characters
	maxPassword = 128 // characters, every byte of which counts
	maxFullName = 200 // characters
)

// Agent is a user of the platform.
type Agent struct {
	ID           string // UUIDv7
	Version      int64  // grows by one with each change
	Email        string // lower case, unique
	PasswordHash string // in PHC string format, never shown
	FullName     string
	Role         identity.Role
	IsActive     bool // an inactive agent cannot log in
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// register makes a new agent of a checked request. The first one of the platform is its admin.
func register(r RegisterRequest, passwordHash string, first bool, now time.Time) (Agent, []contract.Event) {
	a := Agent{
		ID: contract.NewID(), Version: 1, Email: normalize(r.Email), PasswordHash: passwordHash, FullName: r.fullName(),
		Role: identity.Agent, IsActive: true, CreatedAt: now, UpdatedAt: now,
	}
	if first {
		a.Role = identity.Admin
	}
	return a, []contract.Event{contract.AgentRegistered.New(now, a.payload())}
}

// rename gives the agent a checked name.
func (a *Agent) rename(fullName string, now time.Time) []contract.Event {
	if a.FullName == fullName {
		return nil
	}
	a.FullName = fullName
	a.Version++
	a.UpdatedAt = now
	return []contract.Event{contract.AgentUpdated.New(now, a.payload())}
}

func (a *Agent) payload() contract.Agent {
	return contract.Agent{
		AgentID: a.ID, Version: a.Version, Email: a.Email, FullName: a.FullName, Role: string(a.Role),
		IsActive: a.IsActive, CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt,
	}
}

// normalize is the form in which e-mail addresses are kept and compared.
func normalize(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// checkEmail accepts a bare address with one @.
func checkEmail(text string) []fault.Field {
	email := normalize(text)
	local, domain, _ := strings.Cut(email, "@")
	switch {
	case len(email) > maxEmail:
		return []fault.Field{fault.BodyField("email", "string_too_long", fmt.Sprintf("An e-mail address has at most %d bytes", maxEmail))}
	case local == "", domain == "", strings.ContainsAny(local, "\t\r\n <>\"(),:;\\"), strings.ContainsAny(domain, "@\t\r\n <>\"(),:;\\"):
		return []fault.Field{fault.BodyField("email", "value_error", "Input should be a valid e-mail address")}
	}
	return nil
}

func checkPassword(name, text string) []fault.Field {
	return checkLength(name, text, minPassword, maxPassword)
}

func checkFullName(text string) []fault.Field { return checkLength("full_name", text, 1, maxFullName) }

func checkLength(name, text string, least, most int) []fault.Field {
	switch n := utf8.RuneCountInString(text); {
	case n < least:
		return []fault.Field{fault.BodyField(name, "string_too_short", fmt.Sprintf("String should have at least %d characters", least))}
	case n > most:
		return []fault.Field{fault.BodyField(name, "string_too_long", fmt.Sprintf("String should have at most %d characters", most))}
	}
	return nil
}

func (r RegisterRequest) fullName() string { return strings.TrimSpace(cmp.Or(r.FullName, r.Name)) }
