package pgserver_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgserver"
)

// childEnv names a directory. If it is set, the test binary starts a server there, prints the URL and waits to be killed.
const childEnv = "PGSERVER_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		s, err := pgserver.Start(context.Background(), options(dir))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.URL("postgres"))
		<-s.Done()
	}
	os.Exit(m.Run())
}

func options(dir string) pgserver.Options {
	return pgserver.Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Fast: true}
}

func start(t *testing.T, o pgserver.Options) *pgserver.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := pgserver.Start(ctx, o)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *pgserver.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
}

func query[T any](t *testing.T, url, sql string) (result T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), sql)
	require.NoError(t, err)
	result, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return result
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

// Only its owner may enter the directory of t.TempDir, so as root this also tests the capability of postgres.
func TestDataSurvivesARestart(t *testing.T) {
	t.Parallel()
	o := options(filepath.Join(t.TempDir(), "new", "postgres"))
	s := start(t, o)
	execute(t, s.URL("postgres"), "create database shop")
	execute(t, s.URL("shop"), "create table answers as select 42 as answer")
	require.Equal(t, "É é", query[string](t, s.URL("shop"), "select upper('é') || ' ' || lower('É')"))
	require.Equal(t, "UTC", query[string](t, s.URL("shop"), "show timezone"))
	stop(t, s)
	require.NoError(t, s.Err())
	require.NoError(t, s.Stop(t.Context()), "a second stop")

	again := start(t, o)
	require.Equal(t, int32(42), query[int32](t, again.URL("shop"), "select answer from answers"))
}

func TestWritesAreDurableByDefault(t *testing.T) {
	t.Parallel()
	o := options(filepath.Join(t.TempDir(), "postgres"))
	o.Fast = false
	s := start(t, o)
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		require.Equal(t, "on", query[string](t, s.URL("postgres"), "show "+setting), setting)
	}
}

func TestThePasswordIsRequired(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "postgres")
	s := start(t, options(dir))
	u, err := url.Parse(s.URL("postgres"))
	require.NoError(t, err)
	u.User = url.UserPassword("postgres", "wrong")
	_, err = pgx.Connect(t.Context(), u.String())
	require.ErrorContains(t, err, "28P01")
	info, err := os.Stat(filepath.Join(dir, "password"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

func TestOneProcessPerDirectory(t *testing.T) {
	t.Parallel()
	o := options(filepath.Join(t.TempDir(), "postgres"))
	s := start(t, o)
	_, err := pgserver.Start(t.Context(), o)
	require.ErrorContains(t, err, "used by another running process")
	require.Equal(t, int32(1), query[int32](t, s.URL("postgres"), "select 1"), "the first server keeps running")
}

func TestDoneAndErrReportAnUnexpectedExit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "postgres")
	s := start(t, options(dir))
	require.NoError(t, syscall.Kill(postmaster(t, dir), syscall.SIGQUIT))
	<-s.Done()
	require.ErrorContains(t, s.Err(), "exited unexpectedly")
}

func TestStartStopsTheServerOfAKilledProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "postgres")
	old, backend := abandoned(t, dir)
	o := options(dir)
	handler := &onWarning{do: func() { _ = syscall.Kill(backend, syscall.SIGCONT) }}
	o.Log = slog.New(handler)
	s := start(t, o)
	require.True(t, handler.done)
	require.Equal(t, int32(7), query[int32](t, s.URL("postgres"), "select answer from answers"))
	require.NotEqual(t, old, postmaster(t, dir))
}

// A server that was killed while Start waited for its end left postmaster.pid, and PostgreSQL refused to start while its zombie existed.
func TestStartRemovesThePidOfAServerThatIsKilledMeanwhile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "postgres")
	old, backend := abandoned(t, dir)
	file := filepath.Join(dir, "data", "postmaster.pid")
	exists := foreign(t) // as a zombie does
	o := options(dir)
	o.Log = slog.New(&onWarning{do: func() {
		_ = syscall.Kill(old, syscall.SIGKILL)
		_ = syscall.Kill(backend, syscall.SIGCONT)
		if content, err := os.ReadFile(file); err == nil {
			_ = os.WriteFile(file, []byte(strings.Replace(string(content), strconv.Itoa(old), strconv.Itoa(exists), 1)), 0o600)
		}
	}})
	start(t, o)
}

// foreign returns a process that is no server on the data of the test, of the user of PostgreSQL: it ignores those of other users, and
// its parent.
func foreign(t *testing.T) int {
	t.Helper()
	o := options(filepath.Join(t.TempDir(), "foreign"))
	start(t, o)
	return postmaster(t, o.Dir)
}

// abandoned starts a server in a process that is killed, and returns its postmaster and a backend that is frozen. The server waits for
// that until it is continued. So the parent death signal alone cannot have stopped it.
func abandoned(t *testing.T, dir string) (postmasterPID, backend int) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	url := strings.TrimSpace(line)
	require.True(t, strings.HasPrefix(url, "postgres://"), line)
	execute(t, url, "create table answers as select 7 as answer")
	busy, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = busy.Close(context.WithoutCancel(t.Context())) })
	backend = int(busy.PgConn().PID())
	require.NoError(t, syscall.Kill(backend, syscall.SIGSTOP))
	require.NoError(t, child.Process.Kill())
	_ = child.Wait()
	return postmaster(t, dir), backend
}

// PostgreSQL refuses to start while a child of a killed server lives.
func TestStartWaitsForTheChildrenOfAKilledServer(t *testing.T) {
	t.Parallel()
	o := options(filepath.Join(t.TempDir(), "postgres"))
	o.Fast = false
	killed := start(t, o)
	execute(t, killed.URL("postgres"), "create table answers as select 7 as answer")
	busy, err := pgx.Connect(t.Context(), killed.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = busy.Close(context.WithoutCancel(t.Context())) }()
	backend := int(busy.PgConn().PID())
	require.NoError(t, syscall.Kill(backend, syscall.SIGSTOP))
	require.NoError(t, syscall.Kill(postmaster(t, o.Dir), syscall.SIGKILL))
	<-killed.Done()

	handler := &onWarning{do: func() { _ = syscall.Kill(backend, syscall.SIGCONT) }}
	o.Log = slog.New(handler)
	s := start(t, o)
	require.True(t, handler.done)
	require.Equal(t, int32(7), query[int32](t, s.URL("postgres"), "select answer from answers"))
}

// onWarning is a log handler that calls do on a warning.
type onWarning struct {
	do   func()
	done bool
}

func (h *onWarning) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (h *onWarning) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h *onWarning) WithGroup(string) slog.Handler                { return h }

func (h *onWarning) Handle(context.Context, slog.Record) error {
	h.done = true
	h.do()
	return nil
}

func TestAPidOfAnotherProgramIsIgnored(t *testing.T) {
	t.Parallel()
	o := options(filepath.Join(t.TempDir(), "postgres"))
	stop(t, start(t, o))
	stale := fmt.Sprintf("%d\n%s\n", foreign(t), o.Dir)
	require.NoError(t, os.WriteFile(filepath.Join(o.Dir, "data", "postmaster.pid"), []byte(stale), 0o600))
	start(t, o)
}

func TestAnInterruptedInitdbIsRepeated(t *testing.T) {
	t.Parallel()
	o := options(filepath.Join(t.TempDir(), "postgres"))
	unfinished := filepath.Join(o.Dir, "data.init")
	require.NoError(t, os.MkdirAll(unfinished, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(unfinished, "PG_VERSION"), []byte("15\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(o.Dir, "lock"), nil, 0o600))
	start(t, o)
	require.NoDirExists(t, unfinished)
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	foreign := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "thesis.doc"), nil, 0o600))
	future := filepath.Join(t.TempDir(), "postgres")
	require.NoError(t, os.MkdirAll(filepath.Join(future, "data"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(future, "lock"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(future, "data", "PG_VERSION"), []byte("99\n"), 0o600))
	busy := start(t, options(filepath.Join(t.TempDir(), "postgres")))

	for name, c := range map[string]struct {
		change func(*pgserver.Options)
		want   string
	}{
		"foreign directory": {func(o *pgserver.Options) { o.Dir = foreign }, "holds other things"},
		"no binaries":       {func(o *pgserver.Options) { o.Bin = t.TempDir() }, "apt-get install postgresql"},
		"old binaries":      {func(o *pgserver.Options) { o.Bin = fakeBinaries(t, "postgres (PostgreSQL) 9.6") }, "found only PostgreSQL [9 in"},
		"newer data":        {func(o *pgserver.Options) { o.Dir = future }, "the data is from PostgreSQL 99"},
		"port in use":       {func(o *pgserver.Options) { o.Port = port(t, busy) }, "address already in use"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(filepath.Join(t.TempDir(), "postgres"))
			c.change(&o)
			_, err := pgserver.Start(t.Context(), o)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func fakeBinaries(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+version+"'\n"), 0o700))
	}
	return dir
}

func port(t *testing.T, s *pgserver.Server) int {
	t.Helper()
	u, err := url.Parse(s.URL("postgres"))
	require.NoError(t, err)
	n, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	return n
}

func postmaster(t *testing.T, dir string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(line)
	require.NoError(t, err)
	return pid
}
