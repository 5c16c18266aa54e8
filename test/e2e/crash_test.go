package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/test/fake/openai"
	"github.com/convoflow/convoflow/test/fake/pabbly"
	"github.com/convoflow/convoflow/test/fake/script"
)

// killedJob is one run of the main use case that is killed at some moment.
type killedJob struct {
	*agent
	s              *stack
	programs       []string // to kill; none means all
	client         client
	callID         string
	followUp       bool // whether its response has been read
	transcriptions int  // transcription requests that OpenAI had received before
	completions    int  // chat completion requests likewise
}

// moment is when the platform is killed: kill runs the main use case up to there, and kills the platform.
type moment struct {
	name string
	kill func(v *killedJob)
}

// TestKillAtAnyMoment kills the platform with kill -9 at many moments of the main use case and restarts it on the same data.
// Nothing is lost and nothing happens twice. Each group is one platform that is killed again and again.
func TestKillAtAnyMoment(t *testing.T) {
	t.Parallel()
	for name, moments := range map[string][]moment{
		"upload": {
			{"right after the client was created", func(v *killedJob) { v.kill() }},
			{"in the middle of the upload's body", killInUpload},
			{"right after 202", func(v *killedJob) { v.uploadCall(); v.kill() }},
			{"twice while it starts", killTwiceDuringStart},
			{"while a webhook is being received", func(v *killedJob) { v.killDuring(&v.s.pabbly.Queue, transcriptionCompleted, v.uploadCall) }},
		},
		"transcription": {
			{"while the recording is decoded", killWhileDecoding},
			{"while the transcription is requested", func(v *killedJob) { v.killDuring(&v.s.openai.Queue, openai.Transcriptions, v.uploadCall) }},
			{"right after the transcription was answered", func(v *killedJob) { v.killAfter(&v.s.openai.Queue, openai.Transcriptions, v.uploadCall) }},
			{"right after a webhook was answered", func(v *killedJob) { v.killAfter(&v.s.pabbly.Queue, transcriptionCompleted, v.uploadCall) }},
		},
		"insights": {
			{"while the insights are requested", func(v *killedJob) { v.killDuring(&v.s.openai.Queue, openai.Chat, v.uploadCall) }},
			{"right after the insights were answered", func(v *killedJob) { v.killAfter(&v.s.openai.Queue, openai.Chat, v.uploadCall) }},
			{"right after the call was completed", func(v *killedJob) { v.uploadCall(); v.completed(v.callID); v.kill() }},
		},
		"follow-up": {
			{"when the follow-up's request was written", func(v *killedJob) {
				v.killInFollowUp(func(kill func()) *httptrace.ClientTrace {
					return &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { kill() }}
				})
			}},
			{"when the follow-up's answer begins to arrive", func(v *killedJob) {
				v.killInFollowUp(func(kill func()) *httptrace.ClientTrace { return &httptrace.ClientTrace{GotFirstResponseByte: kill} })
			}},
			{"while the follow-up's webhook is being received", func(v *killedJob) { v.killDuring(&v.s.pabbly.Queue, followUpScheduled, v.scheduleIt) }},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFakes(t)
			s := newPlatform(t, f, false, f.settings()...)
			s.start()
			admin := s.newAgent()
			for _, m := range moments {
				t.Run(m.name, func(t *testing.T) { m.run(s.in(t), admin) })
			}
		})
	}
}

// TestKillOneService does the same to one of five processes, while the others continue.
func TestKillOneService(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newServices(t, f, f.settings()...)
	s.start()
	admin := s.newAgent()
	for service, m := range map[string]moment{
		"gateway": {"in the middle of the upload's body", killInUpload},
		"calls":   {"while the transcription is requested", func(v *killedJob) { v.killDuring(&v.s.openai.Queue, openai.Transcriptions, v.uploadCall) }},
		"crm": {"when the follow-up's answer begins to arrive", func(v *killedJob) {
			v.killInFollowUp(func(kill func()) *httptrace.ClientTrace { return &httptrace.ClientTrace{GotFirstResponseByte: kill} })
		}},
		"notify": {"while a webhook is being received", func(v *killedJob) { v.killDuring(&v.s.pabbly.Queue, transcriptionCompleted, v.uploadCall) }},
		"auth":   {"right after the client was created", func(v *killedJob) { v.kill(); v.uploadCall(); v.completed(v.callID) }},
	} {
		t.Run(service+" "+m.name, func(t *testing.T) { m.run(s.in(t), admin, service) })
	}
}

// run runs the main use case with a kill at the moment.
func (m moment) run(s *stack, admin *agent, programs ...string) {
	v := &killedJob{
		agent: s.newAgent(), s: s, programs: programs,
		transcriptions: len(s.openai.Requests(openai.Transcriptions)), completions: len(s.openai.Requests(openai.Chat)),
	}
	v.client = v.newClient()
	m.kill(v)
	s.t.Logf("ready again after %s", s.start())
	v.finish()
	v.check(s.as(admin))
}

func (v *killedJob) kill() { v.s.kill(v.programs...) }

func (v *killedJob) uploadCall() {
	v.callID = v.upload(map[string]string{"client_id": v.client.ID, "force": "true"}, "Idempotency-Key", "upload").ID
}

func (v *killedJob) scheduleIt() {
	v.uploadCall()
	v.completed(v.callID)
	v.post("/followups", followUpBody(v.callID), "Idempotency-Key", "follow-up").must(http.StatusCreated)
	v.followUp = true
}

// killDuring kills while a request of the platform waits for its response.
func (v *killedJob) killDuring(q *script.Queue, key string, job func()) {
	gate := q.Block(key)
	job()
	gate.Wait(v.t)
	v.kill()
}

// killAfter kills right after a request of the platform has got its response.
func (v *killedJob) killAfter(q *script.Queue, key string, job func()) {
	answered := make(chan struct{})
	q.Script(key, func(w http.ResponseWriter, r *http.Request, answer http.HandlerFunc) {
		answer(w, r)
		_ = http.NewResponseController(w).Flush()
		close(answered)
	})
	job()
	select {
	case <-answered:
	case <-time.After(script.Timeout):
		v.t.Fatalf("no request came to %s", key)
	}
	v.kill()
}

// killInUpload kills when half of a recording has been sent.
func killInUpload(v *killedJob) {
	audio := salesCall(v.t)
	rest, send := io.Pipe()
	content := io.MultiReader(bytes.NewReader(audio[:len(audio)/2]), rest)
	upload := recording("half.ogg", content, int64(len(audio)), map[string]string{"client_id": v.client.ID})
	before := v.s.files()
	failed := make(chan error, 1)
	go func() {
		_, err := v.try(http.MethodPost, "/calls/upload", upload)
		failed <- err
	}()
	poll(v.t, script.Timeout, "the recording is being written", func() bool { return len(v.s.files()) > len(before) })
	v.kill()
	_ = send.CloseWithError(io.ErrUnexpectedEOF)
	require.Error(v.t, <-failed)
	// The file that the upload left may belong to a running upload until AUDIO_ORPHAN_AGE, an hour, has passed.
	for _, file := range v.s.files() {
		if !slices.Contains(before, file) {
			past := time.Now().Add(-2 * time.Hour)
			if err := os.Chtimes(file, past, past); !errors.Is(err, os.ErrNotExist) {
				require.NoError(v.t, err)
			}
		}
	}
}

// killWhileDecoding kills when a worker has begun, and nothing was requested.
func killWhileDecoding(v *killedJob) {
	v.uploadCall()
	poll(v.t, jobTimeout, "a worker begins", func() bool { return v.call(v.callID).Status != "pending" })
	v.kill()
}

// killTwiceDuringStart kills the platform, then the first start when its database is up, then the second before it is ready.
func killTwiceDuringStart(v *killedJob) {
	v.uploadCall()
	v.kill()
	for _, part := range []string{"PostgreSQL", "calls"} {
		v.s.launchOnly().await(v.t, "\n  "+part)
		v.kill()
	}
}

// killInFollowUp kills during the request that creates the follow-up, whose result the client then does not know.
func (v *killedJob) killInFollowUp(when func(kill func()) *httptrace.ClientTrace) {
	v.uploadCall()
	v.completed(v.callID)
	request := v.request(http.MethodPost, "/followups", followUpBody(v.callID), "Idempotency-Key", "follow-up")
	request = request.WithContext(httptrace.WithClientTrace(request.Context(), when(func() { v.kill() })))
	// Without the contract's transport: a truncated response does not match the contract.
	if response, err := (&http.Client{Transport: &http.Transport{}}).Do(request); err == nil {
		_ = response.Body.Close()
	}
}

// finish does the rest of the main use case, as an app that retries does.
func (v *killedJob) finish() {
	v.t.Helper()
	if v.callID == "" {
		v.uploadCall()
	}
	v.completed(v.callID)
	if !v.followUp {
		v.post("/followups", followUpBody(v.callID), "Idempotency-Key", "follow-up").must(http.StatusCreated)
	}
}

func (v *killedJob) check(admin *agent) {
	t := v.t
	t.Helper()
	got := v.call(v.callID)
	require.Equal(t, openai.DefaultTranscript().Text(), got.RawTranscript)
	require.Equal(t, openai.DefaultInsights()["summary"], got.Summary)
	require.LessOrEqual(t, len(v.s.openai.Requests(openai.Transcriptions))-v.transcriptions, 2, "a transcription is paid for once, and once more at worst")
	require.LessOrEqual(t, len(v.s.openai.Requests(openai.Chat))-v.completions, 2)
	require.Equal(t, []string{v.callID}, v.ids("/calls"))
	require.Len(t, v.ids("/followups?status=pending"), 1) // beside those that were suggested
	require.Len(t, v.ids("/clients"), 1)

	poll(t, jobTimeout, "both webhooks are delivered and recorded", func() bool {
		return len(admin.ids("/webhooks/deliveries?status=delivered&call_id="+v.callID)) == 2
	})
	for _, event := range []string{transcriptionCompleted, followUpScheduled} {
		same := v.webhooks(event)
		require.NotEmpty(t, same, event)
		for _, d := range same {
			require.Equal(t, same[0].EventID, d.EventID, event)
			require.Equal(t, string(same[0].Body), string(d.Body), event)
		}
	}
	v.s.pabbly.RequireValid(t)

	// The admin sees all calls: each has its recording, and there are no other files.
	calls := admin.ids("/calls?limit=500")
	var files []string
	poll(t, jobTimeout, "a recording for each call", func() bool { files = v.s.files(); return len(files) == len(calls) })
	for _, id := range calls {
		require.Condition(t, func() bool { return strings.Contains(strings.Join(files, "\n"), id) }, "the recording of %s", id)
	}
}

// webhooks returns the webhooks of the call.
func (v *killedJob) webhooks(event string) (mine []pabbly.Delivery) {
	for _, d := range v.s.pabbly.Deliveries() {
		var body struct {
			CallID string `json:"call_id"`
		}
		if err := json.Unmarshal(d.Body, &body); err != nil {
			v.t.Fatal(fmt.Errorf("a webhook that is not JSON: %w", err))
		}
		if d.Event == event && body.CallID == v.callID {
			mine = append(mine, d)
		}
	}
	return mine
}
