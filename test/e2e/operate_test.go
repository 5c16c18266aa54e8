package e2e

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// operate runs a command of convoflow on the stack's data directory.
func (s *stack) operate(arguments ...string) (code int, said string) {
	s.t.Helper()
	argv := append([]string{built.platform(s.t, false)}, arguments...)
	code, stdout, stderr := command(s.t, s.units[0].environ, append(argv, "--data-dir", s.dir)...)
	return code, stdout + stderr
}

// does requires that a command succeeds, and returns what it says.
func (s *stack) does(arguments ...string) string {
	s.t.Helper()
	code, said := s.operate(arguments...)
	require.Zero(s.t, code, said)
	return said
}

// refuses requires that a command fails and says why.
func (s *stack) refuses(why string, arguments ...string) {
	s.t.Helper()
	code, said := s.operate(arguments...)
	require.NotZero(s.t, code, said)
	require.Contains(s.t, said, why)
}

// A drill: a backup that was made while the platform ran is restored, and what is newer comes from Kafka.
func TestABackupIsRestored(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, f.settings()...)
	s.refuses("no platform was ever started", "doctor")
	s.start()
	a := s.newAgent()
	before := a.completed(a.upload(nil).ID)

	said := s.does("doctor", "--url", s.url)
	require.NotContains(t, said, "PROBLEM")
	require.Regexp(t, `ok +crm kafka +1 brokers`, said)
	require.Regexp(t, `ok +notify migrations +all applied`, said)
	require.Regexp(t, `calls +published by +convoflow-calls`, s.does("outbox", "status"))
	require.Regexp(t, `agent `+a.me()+` +\d`, s.does("usage"))

	backup := filepath.Join(t.TempDir(), "backup")
	since := regexp.MustCompile(`--from (\S+)`).FindStringSubmatch(s.does("backup", "--to", backup, "--recordings"))[1]
	s.refuses("file exists", "backup", "--to", backup)
	s.refuses("the platform is running", "restore", "--from", backup)
	s.refuses("stop all replicas first", "events", "replay", "--service", "crm", "--from", since)
	after := a.completed(a.upload(nil).ID) // not in the backup
	s.stop()
	for _, file := range s.files() {
		require.NoError(t, os.Remove(file))
	}

	s.refuses("--overwrite replaces it", "restore", "--from", backup)
	require.Contains(t, s.does("restore", "--from", backup, "--overwrite"), "1 recordings, 1 of them from the backup, 0 missing")
	require.Regexp(t, `crm +will read again calls.calls.v1/\d+ from offset \d+`, s.does("events", "replay", "--service", "all", "--from", since))
	s.start()
	a.login()
	require.Equal(t, before.Summary, a.call(before.ID).Summary)
	a.get("/calls/" + before.ID + "/audio").must(http.StatusOK)
	a.get("/calls/" + after.ID).must(http.StatusNotFound) // what its owner has lost is lost
	poll(t, startTimeout, "crm has the call from its events", func() bool {
		got, err := a.try(http.MethodPost, "/followups", map[string]any{"call_id": after.ID, "due_date": "2030-01-02T10:00:00Z"})
		return err == nil && got.status == http.StatusCreated
	})
	s.stop()
	s.refusesADamagedDump(backup)
	s.start()
	a.login()
	require.Equal(t, before.Summary, a.call(before.ID).Summary, "what was there is there after restores that failed")
}

// refusesADamagedDump damages the dump of a backup: once so that its checksum shows it, and once so that only pg_restore notices it, in
// the middle.
func (s *stack) refusesADamagedDump(backup string) {
	s.t.Helper()
	dump, about := filepath.Join(backup, "database.dump"), filepath.Join(backup, "backup.json")
	whole, err := os.ReadFile(dump)
	require.NoError(s.t, err)
	cut := whole[:len(whole)-len(whole)/4]
	require.NoError(s.t, os.WriteFile(dump, cut, 0o600))
	s.refuses("damaged", "restore", "--from", backup, "--overwrite")

	raw, err := os.ReadFile(about)
	require.NoError(s.t, err)
	sum := func(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }
	require.Contains(s.t, string(raw), sum(whole))
	require.NoError(s.t, os.WriteFile(about, []byte(strings.ReplaceAll(string(raw), sum(whole), sum(cut))), 0o600))
	s.refuses("nothing was restored, the database is as it was", "restore", "--from", backup, "--overwrite")
}
