package auth_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth"
	"github.com/convoflow/convoflow/services/auth/internal/key"
)

// wrong is the clock of a machine that differs by a constant.
type wrong struct{ by time.Duration }

func (w wrong) Now() time.Time { return clock.System{}.Now().Add(w.by) }

func wrongBy(d time.Duration) func(*auth.Config) {
	return func(c *auth.Config) { c.Clock = wrong{d} }
}

// within requires that read returns a time during do by the database's clock. slack is how long a reading of that clock may take.
func (a app) within(what string, do func() time.Time) {
	a.T.Helper()
	const slack = 5 * time.Second
	before := value[time.Time](a, `select clock_timestamp()`)
	at := do()
	require.WithinRange(a.T, at, before.Add(-slack), value[time.Time](a, `select clock_timestamp()`).Add(slack), what)
}

// The clock of one replica is 10 min ahead, that of another 30 s behind: all times are those of the database.
func TestAWrongClockOfAReplicaChangesNothing(t *testing.T) {
	t.Parallel()
	right := start(t)
	right.register("asha@example.com")
	for name, by := range map[string]time.Duration{"ahead": 10 * time.Minute, "behind": -30 * time.Second} {
		t.Run(name, func(t *testing.T) {
			right := right.in(t)
			other := right.replica(wrongBy(by))
			var login servicetest.Answer
			right.within("the token's iat", func() time.Time {
				login = other.login("asha@example.com", "tangerine-otter").Is(200)
				return claimTime(t, login.Text("access_token"), "iat").Add(time.Second / 2) // it has whole seconds
			})
			right.within("the session", func() time.Time { return value[time.Time](right, `select max(created_at) from sessions`) })
			right.me(login.Text("access_token")).Is(200)
			other.me(right.token("asha@example.com")).Is(200)

			// The grace after a renewal, both ways.
			renewed := right.refresh(login.Text("refresh_token")).Is(200).Text("refresh_token")
			require.Equal(t, renewed, other.refresh(login.Text("refresh_token")).Is(200).Text("refresh_token"))
			third := other.refresh(renewed).Is(200).Text("refresh_token")
			right.within("the renewal", func() time.Time { return value[time.Time](right, `select max(last_used_at) from sessions`) })
			require.Equal(t, third, right.refresh(renewed).Is(200).Text("refresh_token"))
		})
	}
}

func TestAWrongClockNeitherShortensNorProlongsADelay(t *testing.T) {
	t.Parallel()
	right := start(t)
	ahead, behind := right.replica(wrongBy(10*time.Minute)), right.replica(wrongBy(-30*time.Second))
	right.register("asha@example.com")
	right.login("asha@example.com", "wrong").Is(401)
	right.exec(`update login_failures set failures = 14`) // the next attempt waits for minutes
	for _, replica := range []app{right, ahead, behind} {
		replica.login("asha@example.com", "tangerine-otter").Fails(429, "too_many_attempts")
	}
	right.exec(`update login_failures set last_at = last_at - interval '16 minutes'`)
	behind.login("asha@example.com", "tangerine-otter").Is(200)
}

func TestAWrongClockDoesNotRotateTheKeys(t *testing.T) {
	t.Parallel()
	s := start(t)
	wrongBy(10 * time.Minute)(&s.cfg)
	var out bytes.Buffer
	require.ErrorIs(t, auth.RotateKeys(t.Context(), s.cfg, telemetry.Nop(), &out), key.ErrTooSoon)
}

func (a app) exec(sql string) {
	a.T.Helper()
	_, err := a.DB.Conn(a.T.Context()).Exec(a.T.Context(), sql)
	require.NoError(a.T, err)
}

// claimTime returns a time in the claims of a token.
func claimTime(t *testing.T, text, name string) time.Time {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	require.NoError(t, err)
	var claims map[string]any
	require.NoError(t, json.Unmarshal(raw, &claims))
	return time.Unix(int64(claims[name].(float64)), 0)
}
