package leadimport_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/job"
	"github.com/convoflow/convoflow/libs/job/jobtest"
	"github.com/convoflow/convoflow/libs/outbox"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/crm/internal/inbound"
	"github.com/convoflow/convoflow/services/crm/internal/lead"
	"github.com/convoflow/convoflow/services/crm/internal/leadimport"
	"github.com/convoflow/convoflow/services/crm/internal/store"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var errKilled = errors.New("the process was killed")

// world is the service of imports on a real store. After kill, its worker can do nothing any more, as after kill -9.
type world struct {
	t       *testing.T
	db      *pg.DB
	service *leadimport.Service
	worker  *leadimport.Processor
	batches int    // how many batches the worker does before it is killed; negative: it is not
	most    uint64 // of the heap in use after a collection, in bytes
	ctx     context.Context
}

// heap returns the bytes in use after a garbage collection.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

type everything interface {
	leadimport.Store
	leadimport.Batches
}

// mortal is the store as a worker has it.
type mortal struct {
	everything
	w *world
}

func (m mortal) Rows(ctx context.Context, id string, epoch int64, ttl time.Duration, limit int, fn func(context.Context, *leadimport.Import, []leadimport.Staged) ([]leadimport.Touched, error)) (bool, error) {
	if m.w.batches == 0 {
		return false, errKilled
	}
	if m.w.batches--; m.w.batches%10 == 0 {
		m.w.most = max(m.w.most, heap())
	}
	return m.everything.Rows(ctx, id, epoch, ttl, limit, fn)
}

func (m mortal) Change(ctx context.Context, id string, fn func(*leadimport.Import) error) (leadimport.Import, error) {
	if m.w.batches == 0 {
		return leadimport.Import{}, errKilled
	}
	return m.everything.Change(ctx, id, fn)
}

type anyStatus struct{}

func (anyStatus) Check(context.Context, lead.Status, lead.Extra) ([]fault.Field, error) {
	return nil, nil
}

func (anyStatus) HasField(context.Context, string) (bool, error) { return true, nil }

type nobody struct{}

func (nobody) Check(context.Context, string) error {
	return fault.New(fault.NotFound, "agent_not_found", "Agent not found")
}
func (nobody) Next(context.Context) (*string, func(bool), error) {
	return nil, func(bool) {}, nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db := pgtest.Open(t, outbox.Migrations(), job.Migrations(), store.Migrations())
	stored, out := store.Imports(db, jobtest.Queue(t, db, store.Import)), outbox.New(db, telemetry.Nop())
	w := &world{t: t, db: db, batches: -1}
	w.ctx = identity.With(t.Context(), identity.Caller{AgentID: event.NewID(), Role: identity.Agent})
	w.worker = &leadimport.Processor{
		Imports: mortal{stored, w}, Batches: mortal{stored, w}, Leads: store.Leads(db, out), Rules: anyStatus{}, Team: nobody{}, Balancer: nobody{},
		Erasures: store.Erasures(db, out),
		Clock:    clock.System{}, Log: telemetry.Nop().Log, Holder: "test",
	}
	w.service = &leadimport.Service{
		Imports: stored, Processor: w.worker, Mapping: inbound.BuiltIn{}, Clock: clock.System{},
		NormalizePhone: func(number string) (string, bool) { return number, strings.HasPrefix(number, "+") },
	}
	return w
}

// begin stages n rows, half of which have a number twice, and queues the import.
func (w *world) begin(n int) leadimport.Outcome {
	w.t.Helper()
	var file strings.Builder
	file.WriteString("name,phone\n")
	for i := range n {
		fmt.Fprintf(&file, "Lead %d,+%d\n", i, 1000+i%(n/2))
	}
	var req leadimport.Request
	_, err := w.service.Stage(w.ctx, &req, "leads.csv", strings.NewReader(file.String()))
	require.NoError(w.t, err)
	got, err := w.service.Import(w.ctx, req)
	require.NoError(w.t, err)
	return got
}

func (w *world) number(query string, args ...any) int {
	w.t.Helper()
	return pgtest.Column[int](w.t, w.db, query, args...)[0]
}

func (w *world) exec(statement string) {
	w.t.Helper()
	_, err := w.db.Conn(w.ctx).Exec(w.ctx, statement)
	require.NoError(w.t, err)
}

func TestAnImportGoesOnAfterItsWorkerWasKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 2000
	i := w.begin(n)
	require.Equal(t, leadimport.Running, i.State)
	w.batches = 1
	require.ErrorIs(t, w.worker.Process(w.ctx, i.ID, i.Epoch), errKilled)
	require.Equal(t, 500, w.number(`select count(*)::int from leads`))
	zombie, err := w.service.Imports.Find(w.ctx, i.ID)
	require.NoError(t, err)

	w.batches = -1
	require.NoError(t, w.worker.Process(w.ctx, i.ID, i.Epoch), "a second job of it is superseded")
	require.Equal(t, 500, w.number(`select count(*)::int from leads`))
	require.NoError(t, w.worker.Reclaim(w.ctx))
	require.Equal(t, 500, w.number(`select count(*)::int from leads`), "its lease has not expired")
	w.exec(`update imports set lease_until = now() - interval '1 second'`)
	require.NoError(t, w.worker.Reclaim(w.ctx))
	reclaimed, err := w.service.Imports.Find(w.ctx, i.ID)
	require.NoError(t, err)
	require.NoError(t, w.worker.Process(w.ctx, i.ID, reclaimed.Epoch))

	done, err := w.service.Imports.Find(w.ctx, i.ID)
	require.NoError(t, err)
	require.Equal(t, leadimport.Completed, done.State)
	require.Equal(t, []int{n, n / 2, n / 2}, []int{done.Processed(), done.Created, done.Merged})
	require.Equal(t, n/2, w.number(`select count(*)::int from leads`))
	require.Equal(t, n/2, w.number(`select count(*)::int from outbox where type = 'lead.imported'`), "one event for each")
	require.Zero(t, w.number(`select count(*)::int from import_rows where result is null or data is not null`))
	_, err = w.worker.Batches.Rows(w.ctx, i.ID, zombie.Epoch, time.Minute, 10, nil)
	require.ErrorContains(t, err, "superseded", "the worker that was taken for dead")
}

func TestAnImportWhoseJobWasNeverBegunIsQueuedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.begin(1200)
	jobs := `select count(*)::int from river_job where state = 'available' and args->>'id' = $1`
	require.NoError(t, w.worker.Reclaim(w.ctx))
	require.Equal(t, 1, w.number(jobs, i.ID), "it waits")
	w.exec(`update river_job set state = 'running', attempt = 1, attempted_at = now() - interval '1 minute'`)
	require.NoError(t, w.worker.Reclaim(w.ctx))
	require.NoError(t, w.worker.Reclaim(w.ctx))
	require.Equal(t, 1, w.number(jobs, i.ID), "once")
}

// TestALargeImportNeedsLittleMemory is not parallel, because it measures the whole process.
func TestALargeImportNeedsLittleMemory(t *testing.T) { //nolint:paralleltest // see above
	w := newWorld(t)
	const n = 10_000
	before := heap()
	i := w.begin(n)
	require.NoError(t, w.worker.Process(w.ctx, i.ID, i.Epoch))
	require.Equal(t, n/2, w.number(`select count(*)::int from leads`))
	require.NotZero(t, w.most)
	require.Less(t, w.most, before+16<<20, "a batch and the text of the file, which the test itself holds")
}

func TestAnImportThatFailsAgainAndAgainEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.begin(1200)
	w.exec(`alter table leads rename to elsewhere`)
	for range 5 {
		current, err := w.service.Imports.Find(w.ctx, i.ID)
		require.NoError(t, err)
		require.Equal(t, leadimport.Running, current.State)
		require.NoError(t, w.worker.Process(w.ctx, i.ID, current.Epoch))
	}
	failed, err := w.service.Imports.Find(w.ctx, i.ID)
	require.NoError(t, err)
	require.Equal(t, leadimport.Failed, failed.State)
}

func TestWhatIsNotImportedIsRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var req leadimport.Request
	_, err := w.service.Stage(w.ctx, &req, "leads.csv", strings.NewReader("phone\n+1\n"))
	require.NoError(t, err)
	require.NoError(t, w.worker.Sweep(w.ctx))
	require.Equal(t, 1, w.number(`select count(*)::int from import_rows`))
	w.exec(`update imports set created_at = now() - interval '7 hours'`)
	require.NoError(t, w.worker.Sweep(w.ctx))
	require.Zero(t, w.number(`select count(*)::int from import_rows`))
}
