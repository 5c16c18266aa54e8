package issuer_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/bench/internal/issuer"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/identity"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/telemetry"
)

func TestTokensCanBeVerifiedWithThePublishedKey(t *testing.T) {
	t.Parallel()
	i, err := issuer.New()
	require.NoError(t, err)
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	keys := token.Fetch(server.URL+"/.well-known/jwks.json", http.DefaultClient, clock.System{}, telemetry.Nop())
	go func() { _ = keys.Run(t.Context()) }()
	require.Eventually(t, func() bool { return keys.Ready(t.Context()) == nil }, time.Minute, 10*time.Millisecond)

	agent := event.NewID()
	text, err := i.Token(agent)
	require.NoError(t, err)
	caller, err := token.NewVerifier(keys.Key, clock.System{}).Verify(text)
	require.NoError(t, err)
	require.Equal(t, agent, caller.AgentID)
	require.Equal(t, identity.Agent, caller.Role)
}
