package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/store"
)

// of returns an attempt on an account in the only network that the test has; address is empty for an unknown one.
func of(account, address string) agent.Attempt {
	a := agent.Attempt{Place: []byte(account + " in a network"), Account: []byte(account)}
	if address != "" {
		a.Address = []byte(address)
	}
	return a
}

var attempt = of("account", "address")

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

// failElsewhere lets the address fail so often with other accounts that 6 more failures delay it.
func failElsewhere(t *testing.T, s stores) {
	t.Helper()
	for i := range 20 {
		fail(t, s, of(fmt.Sprint("account", i), "address"), 1)
	}
}

func TestTheDelayGrowsFromThe6thFailureOn(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.False(t, begin(t, s, attempt, now).Failed)
	failElsewhere(t, s)
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
		require.Len(t, begun.Counted, 3)
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
	failElsewhere(t, s)
	for i := range 6 {
		require.Zero(t, begin(t, s, of("fresh", "address"), now).Wait)
		fail(t, s, of(string(rune('a'+i)), "address"), 1)
	}
	require.Positive(t, begin(t, s, of("fresh", "address"), now).Wait)
	require.Zero(t, begin(t, s, of("a", "elsewhere"), now).Wait)
	require.Zero(t, begin(t, s, of("a", ""), now).Wait, "without an address")
}

func TestARefusedAttemptCountsForNoKey(t *testing.T) {
	t.Parallel()
	s := open(t)
	fail(t, s, of("account", ""), 6)
	begin(t, s, of("account", ""), now.Add(2*time.Second)) // 7 now
	failElsewhere(t, s)
	fail(t, s, of("other", "address"), 6)
	later := now.Add(3 * time.Second) // the address has no delay left, the account has one
	require.Equal(t, 3*time.Second, begin(t, s, attempt, later).Wait)
	begun := begin(t, s, of("third", "address"), later)
	require.Zero(t, begun.Wait)
	require.Equal(t, [][]byte{[]byte("address")}, begun.Counted)
}

func TestSuccessClearsTheAccountAndTakesBackTheAddress(t *testing.T) {
	t.Parallel()
	s := open(t)
	failElsewhere(t, s)
	fail(t, s, attempt, 6)
	later := now.Add(2 * time.Second)
	require.NoError(t, s.attempts.Remove(t.Context(), begin(t, s, attempt, later)))
	next := begin(t, s, attempt, later)
	require.Zero(t, next.Wait)
	require.Empty(t, next.Counted, "the network is known")
	other := of("other", "address")
	next = begin(t, s, other, later)
	require.Zero(t, next.Wait)
	require.Equal(t, [][]byte{[]byte("address")}, next.Counted, "the failures of the address still count")
	require.Equal(t, 4*time.Second, begin(t, s, other, later).Wait)
	for at, n := later, 0; n < 20; n++ { // up to the longest delay, and then a success
		at = at.Add(begin(t, s, other, at).Wait)
		begun := begin(t, s, of(fmt.Sprint("guess", n), "address"), at)
		require.Zero(t, begun.Wait)
		later = at
	}
	require.Equal(t, time.Minute, begin(t, s, of("guess", "address"), later).Wait)
	later = later.Add(time.Minute)
	require.NoError(t, s.attempts.Remove(t.Context(), begin(t, s, of("another", "address"), later)))
	require.Zero(t, begin(t, s, of("guess", "address"), later).Wait, "also after the longest delay")
}

func TestSuccessBeforeTheDelaysLeavesTheAddress(t *testing.T) {
	t.Parallel()
	s := open(t)
	failElsewhere(t, s)
	fail(t, s, attempt, 5)
	begun := begin(t, s, attempt, now)
	require.True(t, begun.Failed)
	require.Empty(t, begun.Counted)
	require.NoError(t, s.attempts.Remove(t.Context(), begun))
	fail(t, s, of("account", ""), 5)
	require.Zero(t, begin(t, s, of("account", ""), now).Wait)
	fail(t, s, of("other", "address"), 1)
	require.Positive(t, begin(t, s, of("third", "address"), now).Wait)
}

func TestFailuresExpireAfterAnHour(t *testing.T) {
	t.Parallel()
	s := open(t)
	fail(t, s, attempt, 6)
	begun := begin(t, s, attempt, now.Add(agent.FailureWindow))
	require.False(t, begun.Failed)
	require.NoError(t, s.attempts.Change(t.Context(), begun))
	begun = begin(t, s, attempt, now.Add(agent.FailureWindow))
	require.Zero(t, begun.Wait)
	require.Empty(t, begun.Counted)
}

func TestFailedLoginsContainNoNames(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.NoError(t, s.attempts.Change(t.Context(), agent.Attempt{Place: []byte("place"), Account: []byte("one"), Address: []byte("other"), At: now}))
	require.Equal(t, []string{"failures", "key", "last_at"}, pgtest.Column[string](t, s.db,
		`select column_name::text from information_schema.columns where table_schema = current_schema and table_name = 'login_failures' order by 1`))
	require.Len(t, pgtest.Column[[]byte](t, s.db, `select key from login_failures`), 3)
}

// A stranger elsewhere can delay the owner by 2 s at most, and not at all in a network where the owner has logged in before.
func TestTheAccountItselfWaitsFor2SecondsAtMost(t *testing.T) {
	t.Parallel()
	s := open(t)
	stranger := of("account", "")
	stranger.Place = []byte("elsewhere")
	home := of("account", "")
	require.NoError(t, s.attempts.Remove(t.Context(), begin(t, s, home, now)))
	fail(t, s, stranger, 6)
	at := now
	for range 10 { // as fast as possible
		at = at.Add(begin(t, s, stranger, at).Wait)
		require.NoError(t, s.attempts.Change(t.Context(), begin(t, s, stranger, at)))
	}
	require.Equal(t, 15*time.Minute, begin(t, s, stranger, at).Wait)
	away := of("account", "")
	away.Place = []byte("a hotel")
	require.Equal(t, 2*time.Second, begin(t, s, away, at).Wait)

	begun := begin(t, s, home, at)
	require.Zero(t, begun.Wait)
	require.Empty(t, begun.Counted)
	require.Equal(t, now, begun.KnownAt)
	require.NoError(t, s.attempts.Change(t.Context(), begun))
	require.Equal(t, 2*time.Second, begin(t, s, away, at).Wait, "a wrong password at home does not count for the account")

	at = now.Add(agent.KnownFor)
	require.Zero(t, begin(t, s, home, at).KnownAt)
	require.NoError(t, store.Sweep(t.Context(), s.db, s.out, at.Add(time.Second), time.Hour))
	require.Empty(t, pgtest.Column[[]byte](t, s.db, `select key from known_networks`))
}

func TestRegistrationsOfAnHourAreCounted(t *testing.T) {
	t.Parallel()
	s := open(t)
	registrations := store.Registrations(s.db)
	count := func(key string, at time.Time) time.Duration {
		wait, err := registrations.Create(t.Context(), []byte(key), at, 3)
		require.NoError(t, err)
		return wait
	}
	require.Equal(t, 3, race(8, func(int) bool { return count("office", now) == 0 }))
	require.Equal(t, 20*time.Minute, count("office", now.Add(40*time.Minute)))
	require.Zero(t, count("elsewhere", now))
	require.Equal(t, time.Microsecond, count("office", now.Add(time.Hour-time.Microsecond)))
	require.Zero(t, count("office", now.Add(time.Hour)), "another hour begins")
	require.NoError(t, store.Sweep(t.Context(), s.db, s.out, now.Add(90*time.Minute), time.Hour))
	require.Equal(t, []string{"office"}, pgtest.Column[string](t, s.db, `select convert_from(key, 'UTF8') from registrations`))
}
