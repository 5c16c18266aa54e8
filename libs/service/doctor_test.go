package service_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/doctor"
	"github.com/convoflow/convoflow/libs/event/eventtest"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// TestDoctorNamesWhatIsWrong breaks one thing at a time.
func TestDoctorNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	const password = "wrong-and-secret"
	for name, c := range map[string]struct {
		damage func(t *testing.T, w *servicetest.World)
		level  doctor.Level
		part   string
		says   string
		do     string
	}{
		"nothing": {func(*testing.T, *servicetest.World) {}, doctor.OK, "migrations", "all applied", ""},
		"the password": {func(t *testing.T, w *servicetest.World) {
			u, err := url.Parse(w.Config.Database.URL.Reveal())
			require.NoError(t, err)
			u.User = url.UserPassword(u.User.Username(), password)
			w.Config.Database.URL = conf.Secret(u.String())
		}, doctor.Problem, "database", "authentication failed", "the role's password"},
		"a migration": {func(t *testing.T, w *servicetest.World) {
			base, err := service.OpenDatabase(t.Context(), contract(), w.Config, telemetry.Nop())
			require.NoError(t, err)
			defer base.Close()
			_, err = base.DB.Pool().Exec(t.Context(), `drop table migrations_inbox, inbox`)
			require.NoError(t, err)
		}, doctor.Problem, "migrations", "inbox/", "run `things migrate`"},
		"the clock": {func(_ *testing.T, w *servicetest.World) {
			w.Config.Clock = clock.At(time.Now().Add(10 * time.Minute))
		}, doctor.Warning, "clock", "differs from this machine's by -10m", "NTP"},
		"the broker": {func(_ *testing.T, w *servicetest.World) {
			w.Config.Kafka.Brokers = []string{"127.0.0.1:1"}
		}, doctor.Problem, "kafka", "127.0.0.1:1", "check KAFKA_BROKERS"},
		"a topic that the services create": {func(*testing.T, *servicetest.World) {}, doctor.Warning, "topics", "missing: " + eventtest.ThingsTopic, "create them when they run"},
		"a topic that nobody creates": {func(_ *testing.T, w *servicetest.World) {
			w.Config.Kafka.CreateTopics = false
		}, doctor.Problem, "topics", "missing: " + eventtest.ThingsTopic, "an operator must create them"},
		"auth": {func(_ *testing.T, w *servicetest.World) {
			w.Config.Access.AuthURL = "http://127.0.0.1:1"
		}, doctor.Problem, "auth", "connection refused", "check its setting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := servicetest.New(t, contract())
			c.damage(t, w)
			r := &doctor.Report{Clock: w.Config.Clock}
			service.Examine(t.Context(), r, contract(), w.Config, telemetry.Nop())
			i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.Part == c.part })
			require.GreaterOrEqual(t, i, 0, "%v", r.Findings)
			found := r.Findings[i]
			require.Equal(t, c.level, found.Level, "%v", found)
			require.Contains(t, found.Says, c.says)
			require.Contains(t, found.Do, c.do)
			var text strings.Builder
			if c.level == doctor.Problem {
				require.ErrorIs(t, r.Write(&text), doctor.ErrProblems)
			} else {
				require.NoError(t, r.Write(&text))
			}
			require.NotContains(t, text.String(), password)
		})
	}
}
