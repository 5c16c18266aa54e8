package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
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
		var to call.Details
		link(&to)
		_, err := f.ChangeParties(t.Context(), c.ID, call.Parties{ClientID: to.ClientID, LeadID: to.LeadID}, func(c *call.Call) ([]event.Event, error) {
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
	_, err = f.ChangeParties(t.Context(), found.Items[0].ID, call.Parties{}, func(c *call.Call) ([]event.Event, error) {
		c.Details.Title = new("x")
		return nil, nil
	})
	require.NoError(t, err)
}

// The handlers of events lock the client and then its calls: a request in the other order would be a deadlock.
func TestAPartyIsLockedBeforeTheCall(t *testing.T) {
	t.Parallel()
	f, me, client := open(t), event.NewID(), event.NewID()
	require.NoError(t, store.Clients(f.db).Upsert(t.Context(), call.Client{ID: client, AgentID: me, Version: 1}))
	c := f.add(t, me, noon(), func(*call.Call) {})
	linked := make(chan error, 1)
	require.NoError(t, f.db.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, store.Clients(f.db).Upsert(ctx, call.Client{ID: client, AgentID: me, Version: 2, Deleted: true}))
		_, _, err := store.Clients(f.db).Find(ctx, client) // an upsert is executed with the next statement
		require.NoError(t, err)
		go func() {
			_, err := f.ChangeParties(t.Context(), c.ID, call.Parties{ClientID: &client}, func(c *call.Call) ([]event.Event, error) {
				c.Details.ClientID = &client
				return nil, nil
			})
			linked <- err
		}()
		require.Eventually(t, func() bool {
			return pgtest.Column[int](t, f.db, `select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%from clients%for share%'`)[0] > 0
		}, time.Minute, time.Millisecond, "the request waits for the client")
		_, err = f.db.Conn(ctx).Exec(ctx, `select from calls where id = $1 for update nowait`, c.ID)
		return err
	}))
	require.Equal(t, "client_not_found", fault.Of(<-linked).Code)
}

// An event that made a call may be replayed when the inbox has forgotten it.
func TestACallOfAnEventThatWasDeletedStaysDeleted(t *testing.T) {
	t.Parallel()
	f := open(t)
	c, uploaded := call.WithoutRecording(event.NewID(), event.NewID(), call.Details{CallType: "default", CallTag: "no_answer", RecordedAt: noon()}, noon())
	for range 2 {
		require.NoError(t, f.CreateOnce(t.Context(), c, uploaded...))
		require.Equal(t, 1, f.count(t, "calls"))
	}
	require.NoError(t, f.Remove(t.Context(), c.ID, func(*call.Call) ([]event.Event, error) { return nil, nil }))
	require.NoError(t, f.CreateOnce(t.Context(), c, uploaded...))
	require.Zero(t, f.count(t, "calls"))
}
