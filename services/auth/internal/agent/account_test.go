package agent_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
)

func TestRegistrationsAreLimitedPerAddress(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.RegistrationsPerHour = 2
	try := func(email, ip string) error {
		_, err := f.Register(from(t, ip), agent.RegisterRequest{Email: email, Password: password, FullName: "Asha Rao"})
		return err
	}
	require.NoError(t, try("a@example.com", "192.0.2.1"))
	require.Equal(t, fault.Invalid, fault.KindOf(try("nobody", "192.0.2.1")), "it is not counted")
	require.Equal(t, fault.Conflict, fault.KindOf(try("a@example.com", "192.0.2.1")), "it is counted")
	f.clock.Advance(30 * time.Minute)
	refused := fault.Of(try("b@example.com", "192.0.2.1"))
	require.Equal(t, fault.Limited, refused.Kind)
	require.Equal(t, "too_many_registrations", refused.Code)
	require.Equal(t, 30*time.Minute+time.Second, refused.RetryAfter)
	require.NoError(t, try("b@example.com", "192.0.2.2"))
	f.clock.Advance(refused.RetryAfter)
	require.NoError(t, try("c@example.com", "192.0.2.1"))
}

func TestAPasswordDoesNotNameTheAccount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	admin := f.register(t, "admin@example.com")
	create := func(email, password string) error {
		_, err := f.Create(t.Context(), agent.CreateRequest{Email: email, FullName: "Asha Rao", Password: &password})
		return err
	}
	for _, c := range []struct{ email, password string }{
		{"asha@example.com", "Convoflow2026"}, {"asha@example.com", "convo-flow rocks"}, {"asha@example.com", "1CONVOFLOW1"},
		{"asha.rao@example.com", "Asha.Rao@example.com"}, {"asha.rao@example.com", "asha.rao2026!"}, {"asha.rao@example.com", "ASHA.RAO"},
		{"asha-1999@example.com", "asha2026"}, {"19991999@example.com", "19991999"},
	} {
		require.Equal(t, "password_common", fault.Of(create(c.email, c.password)).Fields[0].Type, c.password)
	}
	require.NoError(t, create("asha@example.com", "asha likes tangerines"))
	require.NoError(t, create("19991999@example.com", "20002000"))

	ctx := f.mustAs(t, f.login(t, "admin@example.com").AccessToken)
	_, err := f.ChangePassword(ctx, agent.ChangePasswordRequest{Current: password, New: "admin2026"})
	require.Equal(t, "password_common", fault.Of(err).Fields[0].Type)
	own := "admin2026"
	_, err = f.UpdateAgent(t.Context(), agent.UpdateAgentRequest{ID: admin.ID, Password: &own})
	require.Equal(t, "password_common", fault.Of(err).Fields[0].Type)
	other := "root@example.com"
	_, err = f.UpdateAgent(t.Context(), agent.UpdateAgentRequest{ID: admin.ID, Password: &own, Email: &other})
	require.NoError(t, err)
}

// An address has one spelling; earlier versions stored some in another.
func TestOneSpellingOfAnAddress(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	asha := f.register(t, "asha@BÜCHER.example")
	require.Equal(t, "asha@xn--bcher-kva.example", asha.Email)
	for _, spelling := range []string{"ASHA@xn--bcher-kva.example", "asha@bücher.example"} {
		_, err := f.Register(t.Context(), agent.RegisterRequest{Email: spelling, Password: password, FullName: "Asha"})
		require.Equal(t, "email_taken", fault.Of(err).Code)
		f.login(t, spelling)
	}
	_, err := f.Register(t.Context(), agent.RegisterRequest{Email: "as\u200bha@example.com", Password: password, FullName: "Asha"})
	require.Equal(t, "value_error", fault.Of(err).Fields[0].Type)

	ben := f.register(t, "ben@example.com")
	_, err = f.db.Conn(t.Context()).Exec(t.Context(), `update agents set email = 'bén@bücher.example' where id = $1`, ben.ID)
	require.NoError(t, err)
	f.login(t, "BÉN@bücher.example")
}
