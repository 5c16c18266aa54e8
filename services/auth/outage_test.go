package auth_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/libs/telemetry"
)

// Kafka is unavailable from the start on: another service verifies tokens with what auth itself says.
func TestOtherServicesAskAuthWhileKafkaIsAway(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.register("asha@example.com")
	before, after, kept := s.token("asha@example.com"), s.token("asha@example.com"), s.token("asha@example.com")
	s.send(before, "POST", "/auth/logout", "").Is(204)

	cfg := bus.Defaults()
	cfg.Brokers = []string{"127.0.0.1:1"}
	kafka, err := bus.Connect(cfg, "test", events.Topics())
	require.NoError(t, err)
	t.Cleanup(kafka.Close)
	settings := access.Defaults()
	settings.AuthURL = s.URL
	callers := access.New(settings, api.Sessions(), kafka, clock.System{}, telemetry.Nop())
	group := run.NewGroup(telemetry.Nop())
	callers.Join(group)
	servicetest.Run(t, group)
	s.Await("the service is ready", func() bool { return callers.Ready(t.Context()) == nil })

	code := func(bearer string) string {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+bearer)
		if _, err := callers.Authenticate(r); err != nil {
			return fault.Of(err).Code
		}
		return ""
	}
	require.Equal(t, "session_ended", code(before), "it ended before the service started")
	require.Empty(t, code(after))
	s.send(after, "POST", "/auth/logout", "").Is(204)
	s.me(after).Fails(401, "session_ended")
	s.Await("the service refuses the session that has ended", func() bool { return code(after) == "session_ended" })
	require.Empty(t, code(kept))
}

func TestRevocationsAreCheckedAndCompressed(t *testing.T) {
	t.Parallel()
	s := start(t)
	const nonce = "a new random text"
	path := access.RevocationsPath + "?nonce=a+new+random+text"
	answer := s.send("", "GET", path, "").Is(200)
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	require.Equal(t, nonce, answer.Text("nonce"))
	for _, wrong := range []string{"", "?nonce=short", "?nonce=a+new+random+text&since=x", "?nonce=a+new+random+text&since=99999999999999999999", "?nonce=a+new+random+text&since=1.2"} {
		s.send("", "GET", access.RevocationsPath+wrong, "").Is(422)
	}
	s.exec(`insert into revocations (id, version, revoked) select gen_random_uuid(), 0, true from generate_series(1, 100)`)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	require.NoError(t, err)
	req.Header.Set("Accept-Encoding", "gzip") // net/http does not decompress then
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, "gzip", res.Header.Get("Content-Encoding"))
	zip, err := gzip.NewReader(res.Body)
	require.NoError(t, err)
	body, err := io.ReadAll(zip)
	require.NoError(t, err)
	require.Equal(t, 100, strings.Count(string(body), `"revoked":true`))
}
