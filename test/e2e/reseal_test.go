package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
)

// SECRET_KEY of a whole platform is replaced as docs/operations.md says; tokens and webhooks work after each step.
func TestTheSecretOfAPlatformIsReplaced(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, f.settings()...)
	set := func(current, previous string) {
		unset := func(pair string) bool { return strings.HasPrefix(pair, "SECRET_KEY") }
		s.units[0].environ = append(slices.DeleteFunc(s.units[0].environ, unset), "SECRET_KEY="+current, "SECRET_KEY_PREVIOUS="+previous)
	}
	reseal := func() (int, string) {
		code, stdout, stderr := command(t, s.units[0].environ, built.platform(t, false), "reseal", "--data-dir", s.dir)
		return code, stdout + stderr
	}
	code, _ := reseal()
	require.Equal(t, exitUsage, code, "nothing to seal yet")

	former, secret := conf.NewSecret(), conf.NewSecret()
	set(former, "")
	s.start()
	a := s.newAgent()
	webhooks := 0
	works := func() {
		a := s.as(a)
		webhooks++
		a.completed(a.upload(nil).ID)
		s.pabbly.WaitFor(t, transcriptionCompleted, webhooks)
	}
	works()
	s.stop()

	set(secret, former)
	s.start()
	works()
	for _, n := range []string{"2", "0"} {
		code, said := reseal()
		require.Zero(t, code, said)
		require.Contains(t, said, n+" of 2 signing keys were sealed again")
	}
	s.stop()

	set(secret, "")
	s.start()
	works()
	set(former, "")
	code, said := reseal()
	require.Equal(t, exitUsage, code, said)
	require.Contains(t, said, "SECRET_KEY")
	require.NotContains(t, said, former)
}
