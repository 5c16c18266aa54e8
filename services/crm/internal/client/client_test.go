package client

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
)

const (
	anAgent      = "019abf00-0000-7000-8000-00000000000a"
	anotherAgent = "019abf00-0000-7000-8000-00000000000b"
)

func at(minute int) time.Time { return time.Date(2026, 11, 24, 9, minute, 0, 0, time.UTC) }

// plusOnly accepts only numbers that begin with +.
func plusOnly(number string) (string, bool) {
	return strings.ReplaceAll(number, " ", ""), strings.HasPrefix(number, "+")
}

func TestFieldsAreCleaned(t *testing.T) {
	t.Parallel()
	got, err := Fields{Name: "  Priya ", Email: new(" p@example.com"), Phone: new(" +91 98 "), Company: new("  "), Notes: nil}.cleaned(plusOnly)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(Fields{Name: "Priya", Email: new("p@example.com"), Phone: new("+9198")}, got))
}

func TestBlankPhoneIsNone(t *testing.T) {
	t.Parallel()
	got, err := Fields{Name: "Priya", Phone: new(" ")}.cleaned(plusOnly)
	require.NoError(t, err)
	require.Nil(t, got.Phone)
}

func TestEveryWrongFieldIsReported(t *testing.T) {
	t.Parallel()
	_, err := Fields{Name: " ", Email: new("no"), Phone: new("12")}.cleaned(plusOnly)
	f := fault.Of(err)
	require.Equal(t, fault.Invalid, f.Kind)
	require.Len(t, f.Fields, 3)
	require.Equal(t, []any{"body", "name"}, f.Fields[0].Loc)
	require.Equal(t, []any{"body", "email"}, f.Fields[1].Loc)
	require.Equal(t, "phone_number", f.Fields[2].Type)
	require.Equal(t, []any{"body", "phone"}, f.Fields[2].Loc)
}

func TestEachChangeIsAVersionWithItsEvent(t *testing.T) {
	t.Parallel()
	c, created := create(anAgent, Fields{Name: "Priya", Phone: new("+91"), Notes: new("likes tea")}, at(0))
	require.Equal(t, events.ClientCreated.Name, created.Type)
	require.Equal(t, events.ClientsTopic, created.Topic)
	require.Equal(t, c.ID, created.Key)
	require.NotContains(t, string(created.Data), "tea", "events contain no notes")

	updated := c.edit(Fields{Name: "Priya S"}, at(1))
	require.Equal(t, events.ClientUpdated.Name, updated.Type)
	var state events.Client
	require.NoError(t, json.Unmarshal(updated.Data, &state))
	require.Empty(t, cmp.Diff(events.Client{ClientID: c.ID, Version: 2, AgentID: anAgent, Name: "Priya S", CreatedAt: at(0), UpdatedAt: at(1)}, state))
}

func TestErasureHoldsNothingPersonal(t *testing.T) {
	t.Parallel()
	c, _ := create(anAgent, Fields{Name: "Priya", Email: new("p@example.com"), Phone: new("+91"), Company: new("Acme")}, at(0))
	deleted := c.erase(nil, at(1))
	require.Equal(t, events.ClientDeleted.Name, deleted.Type)
	var state events.Client
	require.NoError(t, json.Unmarshal(deleted.Data, &state))
	require.Empty(t, cmp.Diff(events.Client{ClientID: c.ID, Version: 2, AgentID: anAgent, CreatedAt: at(0), UpdatedAt: at(1)}, state))
}

func TestAccess(t *testing.T) {
	t.Parallel()
	c, _ := create(anAgent, Fields{Name: "Priya"}, at(0))
	require.NoError(t, c.checkAccess(identity.Caller{AgentID: anAgent, Role: identity.Agent}))
	require.NoError(t, c.checkAccess(identity.Caller{AgentID: anotherAgent, Role: identity.Admin}))
	require.Equal(t, "client_forbidden", fault.Of(c.checkAccess(identity.Caller{AgentID: anotherAgent, Role: identity.Agent})).Code)
}
