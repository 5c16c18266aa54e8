package notify_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/pg/pgtest"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/notify"
)

// isProcess is set in a process of notify that a test has started, which is this program again.
const isProcess = "NOTIFY_TEST_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(isProcess) != "" {
		run.Main("notify", notify.Defaults(), func(ctx context.Context, cfg notify.Config, tel telemetry.Set) error {
			app, err := notify.New(ctx, cfg, tel)
			if err != nil {
				return err
			}
			return app.Run(ctx)
		})
	}
	pgtest.Main(m)
}

// process starts notify in a process of its own. kill is kill -9; it returns when the process has ended.
func (w *world) process() (kill func()) {
	w.T.Helper()
	cmd := exec.CommandContext(w.T.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), isProcess+"=yes", "HTTP_ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0", "AUTH_URL="+w.cfg.Access.AuthURL,
		"DATABASE_URL="+w.cfg.Database.URL.Reveal(), "KAFKA_BROKERS="+strings.Join(w.cfg.Kafka.Brokers, ","), "SECRET_KEY="+w.cfg.SecretKey.Reveal(),
		"PABBLY_WEBHOOK_URL="+w.cfg.WebhookURL.Reveal(), "PABBLY_WEBHOOK_SECRET="+w.cfg.WebhookSecret.Reveal(),
		"WEBHOOK_ALLOW_PRIVATE_CIDRS="+strings.Join(w.cfg.AllowPrivate, ","))
	cmd.Stdout, cmd.Stderr = w.T.Output(), w.T.Output()
	require.NoError(w.T, cmd.Start())
	kill = func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	}
	w.T.Cleanup(kill)
	return kill
}

// Whatever the moment, the event arrives, and again with the same id if nobody can know whether it did.
func TestAKilledProcessLosesNoWebhook(t *testing.T) {
	t.Parallel()
	for name, moment := range map[string]func(w *world, kill func(), rw http.ResponseWriter){
		"before the 200": func(_ *world, kill func(), _ http.ResponseWriter) { kill() },
		// The process has read the response and waits for the lock of a table to record it.
		"after the 200": func(w *world, kill func(), rw http.ResponseWriter) {
			tx, err := w.DB.Pool().Begin(context.Background())
			if err != nil {
				w.T.Error(err)
				return
			}
			defer func() { _ = tx.Rollback(context.Background()) }()
			if _, err := tx.Exec(context.Background(), `lock table attempts in exclusive mode`); err != nil {
				w.T.Error(err)
				return
			}
			rw.Header().Set("Content-Length", "2")
			_, _ = rw.Write([]byte(`{}`))
			_ = http.NewResponseController(rw).Flush()
			w.AwaitRow(`select exists (select from pg_locks where relation = 'attempts'::regclass and not granted)`)
			kill()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := build(t)
			db, err := pg.Open(t.Context(), w.cfg.Database, "test", telemetry.Nop())
			require.NoError(t, err)
			t.Cleanup(db.Close)
			w.DB = db
			killed := make(chan struct{})
			kill := make(chan func(), 1)
			w.answers(func(rw http.ResponseWriter, _ *http.Request) {
				w.answers(func(http.ResponseWriter, *http.Request) {})
				moment(w, <-kill, rw)
				close(killed)
			})
			kill <- w.process()
			c := call()
			w.publish(events.AgentRegistered.New(at, agent), events.TranscriptionCompleted.New(at, c))
			<-killed
			w.AwaitRow(`select count(*) = 1 from deliveries where status = 'pending' and lease_holder is not null and attempts = 1`)
			_, err = db.Pool().Exec(t.Context(), `update deliveries set lease_until = now()`) // 20 s later
			require.NoError(t, err)

			w.process()
			w.AwaitRow(`select status = 'delivered' from deliveries`)
			got := w.requests()
			require.Len(t, got, 2)
			require.Equal(t, got[0].body, got[1].body)
			require.Equal(t, got[0].header.Get("webhook-id"), got[1].header.Get("webhook-id"))
			require.Equal(t, []string{"1 200"}, pgtest.Column[string](t, db, `select number || ' ' || status_code from attempts`), "what is known of the first request is that it was begun")
			require.Equal(t, []int{2}, pgtest.Column[int](t, db, `select attempts from deliveries`))
		})
	}
}
