package auth_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A refresh token with the session's id in capitals gave an access token whose session no logout ended elsewhere.
func TestASessionHasOneSpelling(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register("asha@example.com")
	login := s.login("asha@example.com", "tangerine-otter")
	bearer, refresh := login.Text("access_token"), login.Text("refresh_token")
	id, rest, _ := strings.Cut(refresh, ".")
	s.refresh(strings.ToUpper(id)+"."+rest).Fails(401, "invalid_refresh_token")
	require.True(t, strings.HasPrefix(s.refresh(refresh).Is(200).Text("refresh_token"), id+"."), "it was not spent")

	s.send(bearer, "DELETE", "/auth/sessions/"+strings.ToUpper(id), "").Fails(404, "session_not_found")
	s.send(bearer, "GET", "/agents/"+strings.ToUpper(s.me(bearer).Text("id")), "").Fails(404, "agent_not_found")
	s.me(bearer).Is(200)
}
