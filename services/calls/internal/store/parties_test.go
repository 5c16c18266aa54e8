package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/store"
)

// The erasure of a client or lead deletes the calls that it finds: none may be linked with it afterwards.
func TestNoCallIsLinkedWithADeletedParty(t *testing.T) {
	t.Parallel()
	f, me := open(t), event.NewID()
	client, lead, gone, goneLead := event.NewID(), event.NewID(), event.NewID(), event.NewID()
	clients, leads := store.Clients(f.db), store.Leads(f.db)
	require.NoError(t, clients.Upsert(t.Context(), call.Client{ID: client, AgentID: me, Version: 1}))
	require.NoError(t, clients.Upsert(t.Context(), call.Client{ID: gone, AgentID: me, Version: 1, Deleted: true}))
	require.NoError(t, leads.Upsert(t.Context(), call.Lead{ID: lead, Version: 1}))
	require.NoError(t, leads.Upsert(t.Context(), call.Lead{ID: goneLead, Version: 1, Deleted: true}))

	for code, link := range map[string]func(*call.Details){
		"":                 func(d *call.Details) { d.ClientID, d.LeadID = &client, &lead },
		"client_not_found": func(d *call.Details) { d.ClientID = &gone },
		"lead_not_found":   func(d *call.Details) { d.LeadID = &goneLead },
	} {
		c := f.add(t, me, noon(), func(*call.Call) {})
		_, err := f.ChangeParties(t.Context(), c.ID, func(c *call.Call) ([]event.Event, error) {
			link(&c.Details)
			return nil, nil
		})
		created, events := create(me, noon())
		link(&created.Details)
		errCreate := f.Create(t.Context(), created, events...)
		saved, errFind := f.Find(t.Context(), c.ID)
		require.NoError(t, errFind)
		if code == "" {
			require.NoError(t, err)
			require.NoError(t, errCreate)
			require.Equal(t, client, *saved.Details.ClientID)
			continue
		}
		require.Equal(t, code, fault.Of(err).Code)
		require.Equal(t, code, fault.Of(errCreate).Code)
		require.Nil(t, saved.Details.ClientID)
		require.Nil(t, saved.Details.LeadID)
	}
	require.Equal(t, 4, f.count(t, "calls"), "three and the one that was linked")

	// Other changes of a call whose client is being erased do not fail.
	found, err := f.List(t.Context(), filter(func(x *call.Filter) { x.ClientID = client }))
	require.NoError(t, err)
	require.NoError(t, clients.Upsert(t.Context(), call.Client{ID: client, AgentID: me, Version: 2, Deleted: true}))
	_, err = f.ChangeParties(t.Context(), found.Items[0].ID, func(c *call.Call) ([]event.Event, error) {
		c.Details.Title = new("x")
		return nil, nil
	})
	require.NoError(t, err)
}
