package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

var attempt = agent.Attempt{Account: []byte("account"), Address: []byte("address")}

func begin(t *testing.T, s stores, a agent.Attempt, at time.Time) agent.Attempt {
	t.Helper()
	a.At = at
	a, err := s.attempts.Create(t.Context(), a)
	require.NoError(t, err)
	return a
}

// fail begins attempts now and counts them as wrong.
func fail(t *testing.T, s stores, a agent.Attempt, times int) {
	t.Helper()
	for range times {
		begun := begin(t, s, a, now)
		require.Zero(t, begun.Wait)
		require.NoError(t, s.attempts.Change(t.Context(), begun))
	}
}

func TestTheDelayGrowsFromThe6thFailureOn(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.False(t, begin(t, s, attempt, now).Known)
	fail(t, s, attempt, 6)
	at := now
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900} {
		want *= time.Second
		refused := begin(t, s, attempt, at)
		require.Equal(t, want, refused.Wait)
		require.Empty(t, refused.Counted)
		require.Equal(t, time.Second, begin(t, s, attempt, at.Add(want-time.Second)).Wait, "asking too early changes nothing")
		at = at.Add(want)
		begun := begin(t, s, attempt, at)
		require.Zero(t, begun.Wait)
		require.Len(t, begun.Counted, 2)
		require.NoError(t, s.attempts.Change(t.Context(), begun), "it is not counted twice")
	}
}

func TestOneOfManyAttemptsAtOnceIsAdmittedAfterADelay(t *testing.T) {
	t.Parallel()
	s := open(t)
	fail(t, s, attempt, 6)
	through := race(8, func(int) bool {
		a := attempt
		a.At = now.Add(2 * time.Second)
		a, err := s.attempts.Create(t.Context(), a)
		return err == nil && a.Wait == 0
	})
	require.Equal(t, 1, through)
}

func TestAccountsAndAddressesAreCountedSeparately(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 6 {
		fail(t, s, agent.Attempt{Account: []byte{byte(i)}, Address: []byte("address")}, 1)
	}
	require.Positive(t, begin(t, s, agent.Attempt{Account: []byte("fresh"), Address: []byte("address")}, now).Wait)
	require.Zero(t, begin(t, s, agent.Attempt{Account: []byte{0}, Address: []byte("elsewhere")}, now).Wait)
	require.Zero(t, begin(t, s, agent.Attempt{Account: []byte{0}}, now).Wait, "without an address")
}

func TestARefusedAttemptCountsForNoKey(t *testing.T) {
	t.Parallel()
	s := open(t)
	fail(t, s, agent.Attempt{Account: []byte("account")}, 6)
	begin(t, s, agent.Attempt{Account: []byte("account")}, now.Add(2*time.Second)) // 7 now
	fail(t, s, agent.Attempt{Account: []byte("other"), Address: []byte("address")}, 6)
	later := now.Add(3 * time.Second) // the address has no delay left, the account has one
	require.Equal(t, 3*time.Second, begin(t, s, attempt, later).Wait)
	begun := begin(t, s, agent.Attempt{Account: []byte("third"), Address: []byte("address")}, later)
	require.Zero(t, begun.Wait)
	require.Equal(t, [][]byte{[]byte("address")}, begun.Counted)
}

func TestSuccessClearsTheAccountAndTakesBackTheAddress(t *testing.T) {
	t.Parallel()
	s := open(t)
	fail(t, s, attempt, 6)
	later := now.Add(2 * time.Second)
	require.NoError(t, s.attempts.Remove(t.Context(), begin(t, s, attempt, later)))
	next := begin(t, s, attempt, later)
	require.Zero(t, next.Wait)
	require.Equal(t, [][]byte{[]byte("address")}, next.Counted, "the address is still watched")
	require.Equal(t, 4*time.Second, begin(t, s, attempt, later).Wait)
}

func TestSuccessBeforeTheDelaysLeavesTheAddress(t *testing.T) {
	t.Parallel()
	s := open(t)
	fail(t, s, attempt, 5)
	begun := begin(t, s, attempt, now)
	require.True(t, begun.Known)
	require.Empty(t, begun.Counted)
	require.NoError(t, s.attempts.Remove(t.Context(), begun))
	fail(t, s, agent.Attempt{Account: []byte("account")}, 5)
	require.Zero(t, begin(t, s, agent.Attempt{Account: []byte("account")}, now).Wait)
	fail(t, s, agent.Attempt{Account: []byte("other"), Address: []byte("address")}, 1)
	require.Positive(t, begin(t, s, agent.Attempt{Account: []byte("third"), Address: []byte("address")}, now).Wait)
}

func TestFailuresExpireAfterAnHour(t *testing.T) {
	t.Parallel()
	s := open(t)
	fail(t, s, attempt, 6)
	begun := begin(t, s, attempt, now.Add(agent.FailureWindow))
	require.False(t, begun.Known)
	require.NoError(t, s.attempts.Change(t.Context(), begun))
	begun = begin(t, s, attempt, now.Add(agent.FailureWindow))
	require.Zero(t, begun.Wait)
	require.Empty(t, begun.Counted)
}

func TestFailedLoginsContainNoNames(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.NoError(t, s.attempts.Change(t.Context(), agent.Attempt{Account: []byte("one"), Address: []byte("other"), At: now}))
	require.Equal(t, []string{"failures", "key", "last_at"}, pgtest.Column[string](t, s.db,
		`select column_name::text from information_schema.columns where table_schema = current_schema and table_name = 'login_failures' order by 1`))
	require.Len(t, pgtest.Column[[]byte](t, s.db, `select key from login_failures`), 2)
}
