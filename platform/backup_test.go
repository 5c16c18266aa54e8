package platform

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a restore that fails says about the database depends on when it failed: once psql was told to commit, a lost connection tells
// nothing. The programs are replaced, because the server must not answer exactly then.
func TestARestoreThatFailsSaysWhetherTheDatabaseIsAsItWas(t *testing.T) {
	const asItWas, unknown = "nothing was restored, the database is as it was", "it is not known whether the tables were restored"
	for name, c := range map[string]struct{ dump, psql, says string }{
		"the dump is damaged":             {"exit 1", "cat >/dev/null", asItWas},
		"the dump is damaged, no server":  {"exit 1", "exit 2", asItWas},
		"a statement is refused":          {"echo 'select 1/0;'", "cat >/dev/null; exit 3", asItWas},
		"the answer to commit is lost":    {"echo 'select 1;'", "cat >/dev/null; exit 2", unknown},
		"psql is killed while it commits": {"echo 'select 1;'", "cat >/dev/null; kill -9 $$", unknown},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for program, script := range map[string]string{"pg_restore": c.dump, "psql": c.psql} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
			}
			t.Setenv("POSTGRES_BIN", dir)
			require.ErrorContains(t, replaceSchemas(t.Context(), "postgres://localhost/convoflow", "database.dump"), c.says)
		})
	}
}
