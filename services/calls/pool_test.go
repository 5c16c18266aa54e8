package calls_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/bus/bustest"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
)

// pool has the running services that no test uses: to start one costs more than most tests. A test has its service for itself, and gets
// it as if it was new.
type pool struct {
	mu      sync.Mutex
	idle    []*app
	closing []func()
}

var services pool

// borrow returns a service with the default settings, and takes it back when the test ends, unless it has failed.
func (p *pool) borrow(t *testing.T) *app {
	t.Helper()
	a := p.take()
	if a == nil {
		a = begin(lasting{t, p})
		a.pooled = true
	}
	t.Cleanup(func() { // after what lend does then
		if !t.Failed() {
			p.put(a)
		}
	})
	return a.lend(t)
}

func (p *pool) take() (a *app) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.idle) - 1; last >= 0 {
		a, p.idle = p.idle[last], p.idle[:last]
	}
	return a
}

func (p *pool) put(a *app) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, a)
}

// close stops the services.
func (p *pool) close() {
	for i := len(p.closing) - 1; i >= 0; i-- {
		p.closing[i]()
	}
}

// lasting is the test that starts what outlives it.
type lasting struct {
	testing.TB
	pool *pool
}

// Context does not end with the test.
func (l lasting) Context() context.Context { return context.WithoutCancel(l.TB.Context()) }

// Cleanup calls f when all tests have ended.
func (l lasting) Cleanup(f func()) {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	l.pool.closing = append(l.pool.closing, f)
}

// TempDir returns a directory that outlives the test.
func (l lasting) TempDir() string {
	dir, err := os.MkdirTemp("", "convoflow-calls-test-")
	require.NoError(l, err)
	l.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// lend returns the service for a test or a subtest, with agents of its own. What it was used for is forgotten when that test ends.
func (a *app) lend(t *testing.T) *app {
	t.Helper()
	t.Cleanup(func() { a.in(lasting{t, &services}).forget() })
	lent := a.in(t)
	lent.Agent, lent.Other, lent.Admin = lent.Caller(identity.Agent), lent.Caller(identity.Agent), lent.Caller(identity.Admin)
	return lent
}

// Follow is that of World, for as long as the service runs.
func (a *app) Follow(topic string) *bustest.Log {
	a.T.Helper()
	if a.pooled {
		return a.In(lasting{a.T, &services}).Follow(topic)
	}
	return a.World.Follow(topic)
}

// forget makes the service as new. It waits for work that is not done yet, which ends because its call is gone.
func (a *app) forget() {
	a.T.Helper()
	a.ai.onTranscribe.Store(nil)
	a.ai.onChat.Store(nil)
	a.clear()
	a.ai.server.CloseClientConnections()
	a.Await("the workers are idle", func() bool {
		return len(a.temporary()) == 0 && pgtest.Column[bool](a.T, a.DB, `select not exists (select from river_job where state = 'running')`)[0]
	})
	a.clear()
	a.ai.transcriptions.Store(0)
	a.ai.chats.Store(0)
	a.crm.requests.Store(0)
	a.crm.status.Store(0)
	a.crm.clients.Clear()
	for _, file := range a.files() {
		require.NoError(a.T, os.Remove(filepath.Join(a.storage, file)))
	}
}

// clear empties the tables.
func (a *app) clear() {
	a.T.Helper()
	for _, table := range pgtest.Column[string](a.T, a.DB, `
		select table_name from information_schema.tables where table_schema = current_schema() and table_name !~ '^(migrations|river)_'`) {
		_, err := a.DB.Pool().Exec(a.T.Context(), `delete from `+table)
		require.NoError(a.T, err)
	}
	_, err := a.DB.Pool().Exec(a.T.Context(), `delete from river_job where state <> 'running'`)
	require.NoError(a.T, err)
}
