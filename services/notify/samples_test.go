package notify_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/api/events"
)

// samples are the receivers of docs/webhooks: the command that runs each. scripts/setup --test installs the interpreters.
var samples = map[string]func(file, port string) []string{
	"receiver.go":  func(file, _ string) []string { return []string{"go", "run", file} },
	"receiver.py":  func(file, _ string) []string { return []string{"python3", file} },
	"receiver.js":  func(file, _ string) []string { return []string{"node", file} },
	"receiver.php": func(file, port string) []string { return []string{"php", "-S", "127.0.0.1:" + port, file} },
}

// lateTarget forwards to an address that is known only after its own: a webhook needs a URL before its receiver can have the secret.
func (w *world) lateTarget() (address string, set func(string)) {
	target := make(chan string, 1)
	return httptestURL(w, func(rw http.ResponseWriter, r *http.Request) {
		to := <-target
		target <- to
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: to})
			p.Out.Host = p.In.Host
		}}).ServeHTTP(rw, r)
	}), func(to string) { target <- to }
}

func httptestURL(w *world, h http.HandlerFunc) string {
	srv := httptest.NewServer(h)
	w.T.Cleanup(srv.Close)
	return srv.URL
}

// startSample runs a sample with a secret until the end of the test, and returns its address once it accepts connections.
func (w *world) startSample(name, secret string) string {
	w.T.Helper()
	file, err := filepath.Abs(filepath.Join("testdata", "webhooks", name))
	require.NoError(w.T, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w.T, err)
	address := l.Addr().String()
	require.NoError(w.T, l.Close())
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	line := samples[name](file, port)
	ctx, stop := context.WithCancel(context.WithoutCancel(w.T.Context()))
	var out strings.Builder
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.T.TempDir(), &out, &out
	cmd.Env = append(os.Environ(), "GOWORK=off", "PORT="+port, "WEBHOOK_SECRET="+secret)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run has a child
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	require.NoError(w.T, cmd.Start(), "scripts/setup --test installs %s", line[0])
	w.T.Cleanup(func() {
		stop()
		_ = cmd.Wait()
		if w.T.Failed() {
			w.T.Log(name, out.String())
		}
	})
	w.Await(name+" listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return address
}

// Each sample of the documentation accepts real deliveries, also those that two secrets sign, and refuses all others.
func TestTheSamplesVerifyDeliveries(t *testing.T) {
	t.Parallel()
	w := build(t)
	w.cfg.WebhookURL = ""
	w.start()
	w.publish(events.AgentRegistered.New(at, agent))
	for name := range samples {
		t.Run(name, func(t *testing.T) {
			w := &world{World: w.In(t), cfg: w.cfg}
			target, set := w.lateTarget()
			made := w.create(fmt.Sprintf(`{"url":%q,"events":["transcription.completed"]}`, target+"/hook"))
			address := w.startSample(name, made.Secret)
			set(address)
			w.publish(events.TranscriptionCompleted.New(at, call()))
			w.Await("the sample has accepted a delivery", func() bool { return len(w.list("status=delivered&webhook_id="+made.ID)) == 1 })

			tested := func() (status int) { return into[trial](w, w.test(made.ID)).StatusCode }
			require.Equal(t, http.StatusNoContent, tested())
			w.Do(w.Admin, "POST", "/webhooks/"+made.ID+"/rotate-secret", `{"overlap_hours":1}`).Is(http.StatusOK)
			require.Equal(t, http.StatusNoContent, tested(), "the former secret signs too")
			w.Do(w.Admin, "POST", "/webhooks/"+made.ID+"/rotate-secret", `{"overlap_hours":0}`).Is(http.StatusOK)
			require.Equal(t, http.StatusUnauthorized, tested(), "signed with a secret that the sample does not have")
			w.refusesForged(address, made.Secret)
			w.Do(w.Admin, "DELETE", "/webhooks/"+made.ID, "").Is(http.StatusNoContent)
		})
	}
}

// refusesForged sends a signed message, and then others that are almost like it.
func (w *world) refusesForged(address, secret string) {
	w.T.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	require.NoError(w.T, err)
	now := strconv.FormatInt(time.Now().Unix(), 10)
	signed := func(timestamp string) string {
		return "v1," + base64.StdEncoding.EncodeToString(keyedMAC(string(key), "id-1."+timestamp+".{}"))
	}
	old := strconv.FormatInt(time.Now().Add(-time.Hour).Unix(), 10)
	for name, tt := range map[string]struct {
		timestamp, signature, body string
		want                       int
	}{
		"signed":        {now, signed(now), "{}", 204},
		"second valid":  {now, "v1,AAAA " + signed(now), "{}", 204},
		"another body":  {now, signed(now), "[]", 401},
		"an old one":    {old, signed(old), "{}", 401},
		"no time":       {"", signed(""), "{}", 401},
		"no signature":  {now, "", "{}", 401},
		"other version": {now, "v2" + strings.TrimPrefix(signed(now), "v1"), "{}", 401},
	} {
		req, err := http.NewRequestWithContext(w.T.Context(), http.MethodPost, "http://"+address+"/hook", strings.NewReader(tt.body))
		require.NoError(w.T, err)
		for header, value := range map[string]string{"webhook-id": "id-1", "webhook-timestamp": tt.timestamp, "webhook-signature": tt.signature} {
			if value != "" {
				req.Header.Set(header, value)
			}
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(w.T, err, name)
		_ = res.Body.Close()
		require.Equal(w.T, tt.want, res.StatusCode, name)
	}
}
