package call_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/store"
)

func (f *fixture) cleaner() *call.Cleaner {
	return &call.Cleaner{Calls: f.calls, Erasures: store.Erasures(f.db, outbox.New(f.db, telemetry.Nop())), Recordings: f.bucket, Clock: f.clock, OrphanAge: time.Hour, Log: telemetry.Nop().Log, Missing: func(n int) { f.missing.Store(int64(n)) }}
}

// remove deletes a call.
func (f *fixture) remove(t *testing.T, id string) {
	t.Helper()
	require.NoError(t, f.calls.Remove(t.Context(), id, func(c *call.Call) ([]event.Event, error) { return c.Delete(noon()), nil }))
}

func (f *fixture) erasures(t *testing.T) []string {
	t.Helper()
	return pgtest.Column[string](t, f.db, `select id::text from erasures order by id`)
}

func TestADeletedCallLeavesItsRecordingToAJob(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	f.bucket.err = fault.New(fault.Unavailable, "storage_unavailable", "The storage is down")
	f.remove(t, id)
	_, err := f.calls.Find(t.Context(), id)
	require.True(t, fault.Is(err, fault.NotFound), "also while the storage is down")
	require.Equal(t, []string{"calls.erase"}, pgtest.Column[string](t, f.db, `select kind from river_job where args->>'id' = $1 and kind <> 'calls.transcribe'`, id))

	require.True(t, fault.Is(f.cleaner().Erase(t.Context(), id), fault.Unavailable), "the job is tried again")
	require.Equal(t, []string{id}, f.erasures(t))
	f.bucket.err = nil
	require.NoError(t, f.cleaner().Erase(t.Context(), id))
	require.NoError(t, f.cleaner().Erase(t.Context(), id), "a second job finds nothing to do")
	require.Equal(t, []string{"2026/11/x"}, f.bucket.removed)
	require.Empty(t, f.erasures(t))
}

func TestARefusedDeletionErasesNothing(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.create(t)
	refused := errors.New("not yours")
	require.ErrorIs(t, f.calls.Remove(t.Context(), id, func(*call.Call) ([]event.Event, error) { return nil, refused }), refused)
	require.Empty(t, f.erasures(t))
	f.find(t, id)
}

func TestErasuresWhoseJobsWereLostAreFinished(t *testing.T) {
	t.Parallel()
	f := open(t)
	lost, fresh := f.create(t), f.create(t)
	f.remove(t, lost)
	f.remove(t, fresh)
	f.exec(t, `update erasures set created_at = now() - interval '1 hour' where id = $1`, lost)
	require.NoError(t, f.cleaner().Sweep(t.Context()))
	require.Equal(t, []string{fresh}, f.erasures(t))
	require.Len(t, f.bucket.removed, 1)
}

func TestAFileIsOnlyAnOrphanWithoutItsCall(t *testing.T) {
	t.Parallel()
	f := open(t)
	orphan := event.NewID()
	c, events := fresh(noon())
	c.Recording.Key = "2026/11/" + c.ID
	require.NoError(t, f.calls.Create(t.Context(), c, events...))
	f.bucket.keys = []string{c.Recording.Key, c.Recording.Key + ".1a2b.tmp", "2026/11/" + orphan, "2026/11/notes.txt"}
	require.NoError(t, f.cleaner().Sweep(t.Context()))
	require.Subset(t, []string{c.Recording.Key + ".1a2b.tmp", "2026/11/" + orphan}, f.bucket.removed)
	require.Contains(t, f.bucket.removed, "2026/11/"+orphan)
	require.Contains(t, f.bucket.removed, c.Recording.Key+".1a2b.tmp")
}
