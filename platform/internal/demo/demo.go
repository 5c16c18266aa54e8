// Package demo runs the main use case on a running platform, as a phone app would. It uses only the public API, and fails if any
// expected result does not happen.
package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/convoflow/convoflow/console/sample"
	"github.com/convoflow/convoflow/libs/clock"
)

const (
	pollInterval   = 500 * time.Millisecond
	callTimeout    = 20 * time.Minute // a busy machine transcribes the 39 s slower than real time; progress is shown meanwhile
	webhookTimeout = 5 * time.Minute
	readyTimeout   = 5 * time.Minute
)

// demo is one run of the demo.
type demo struct {
	api     *client
	out     io.Writer
	traceID string
	agentID string
	admin   bool
	lead    lead
	callID  string
	intent  string // of the call; empty if nothing was found in it
	before  dashboard
}

// Run runs the demo on the platform at base and prints each step. The error names the step that failed.
func Run(ctx context.Context, base string, out io.Writer) error {
	trace := make([]byte, 24)
	if _, err := rand.Read(trace); err != nil {
		return fmt.Errorf("generate a trace id: %w", err)
	}
	d := &demo{out: out, traceID: hex.EncodeToString(trace[:16])}
	// The demo starts the trace itself, so that it knows the trace id that webhooks must have.
	d.api = newClient(base, "00-"+d.traceID+"-"+hex.EncodeToString(trace[16:])+"-01")
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"The platform is ready", d.ready},
		{"An agent registers and logs in", d.login},
		{"The agent opens the dashboard", d.openDashboard},
		{"A lead arrives from Pabbly Connect", d.receiveLead},
		{"The agent calls the lead and uploads the recording", d.upload},
		{"The call is transcribed and analyzed", d.follow},
		{"The call moves the lead", d.awaitMove},
		{"The dashboard counts both", d.reopenDashboard},
		{"The follow-up is scheduled", d.schedule},
		{"Pabbly Connect gets the webhooks", d.webhooks},
	} {
		d.say("\n▸ %s\n", step.name)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(step.name[:1])+step.name[1:], err)
		}
	}
	d.say("\nAll of it happened. One trace joins it: %s\n", d.traceID)
	return nil
}

func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }

func (d *demo) ready(ctx context.Context) error {
	version, err := Probe(ctx, d.api.base)
	if err != nil {
		return err
	}
	if err := d.awaitReady(ctx); err != nil {
		return err
	}
	d.say("  convoflow %s at %s\n", version, d.api.base)
	return nil
}

// awaitReady waits for a platform that is still starting.
func (d *demo) awaitReady(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for waited := false; ; waited = true {
		err := d.api.get(ctx, "/ready", nil)
		if unavailable := (*apiError)(nil); !errors.As(err, &unavailable) || unavailable.Status != http.StatusServiceUnavailable {
			return err
		}
		if !waited {
			d.say("  waiting until every service is ready\n")
		}
		if pause(waiting) != nil {
			return fmt.Errorf("%s/ready says which service is not, and its log says why: %w", d.api.base, err)
		}
	}
}

func (d *demo) login(ctx context.Context) error {
	email, password := "demo-"+strings.ToLower(rand.Text()[:10])+"@example.com", rand.Text()
	var agent struct{ ID, Role string }
	err := d.api.post(ctx, "/auth/register", map[string]any{"email": email, "password": password, "full_name": "Dana Demo"}, &agent)
	if err != nil {
		return err
	}
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := d.api.form(ctx, "/auth/login", url.Values{"username": {email}, "password": {password}}, &token); err != nil {
		return err
	}
	d.api.token, d.agentID, d.admin = token.AccessToken, agent.ID, agent.Role == "admin"
	d.say("  %s (%s), token for %s\n", email, agent.Role, time.Duration(token.ExpiresIn)*time.Second)
	return nil
}

func (d *demo) upload(ctx context.Context) error {
	var uploaded struct {
		ID, Status string
		LeadID     *string `json:"lead_id"`
	}
	fields := map[string]string{"lead_id": d.lead.ID, "call_type": "discovery", "call_tag": "connected", "language": "en"}
	if err := d.api.upload(ctx, "/calls/upload", sample.SalesCallName, sample.SalesCall(), fields, progressBar(d.out), &uploaded); err != nil {
		return err
	}
	if uploaded.LeadID == nil || *uploaded.LeadID != d.lead.ID {
		return fmt.Errorf("call %s is not linked with lead %s", uploaded.ID, d.lead.ID)
	}
	d.callID = uploaded.ID
	d.say("  call %s with %s is %s\n", uploaded.ID, d.lead.Name, uploaded.Status)
	return nil
}

// call is the part of a call that the demo shows.
type call struct {
	Status          string
	Outcome         string
	Progress        float64
	Error           *struct{ Code, Message string }
	DurationSeconds float64 `json:"duration_seconds"`
	RawTranscript   string  `json:"raw_transcript"`
	Segments        []struct {
		Start float64
		Text  string
	}
	Summary        string
	ActionItems    []string `json:"action_items"`
	Sentiment      string
	KeyTopics      []string `json:"key_topics"`
	NextStep       string   `json:"next_step"`
	IntentCategory string   `json:"intent_category"`
	Models         struct{ Transcription, Chat string }
}

func (d *demo) follow(ctx context.Context) error {
	took := clock.Stopwatch()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var c call
	before := ""
	for c.Status != "completed" {
		if err := d.api.get(ctx, "/calls/"+d.callID, &c); err != nil {
			return err
		}
		if c.Status == "failed" {
			return fmt.Errorf("the call failed: %s: %s", c.Error.Code, c.Error.Message)
		}
		if now := fmt.Sprintf("%s %3.0f %%", c.Status, 100*c.Progress); now != before {
			d.say("  %5.1f s  %s\n", took().Seconds(), now)
			before = now
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("the call is still %s: %w", c.Status, err)
		}
	}
	if strings.TrimSpace(c.RawTranscript) == "" || c.Summary == "" || c.Sentiment == "" {
		return fmt.Errorf("the call completed with outcome %q and without a transcript, a summary or a sentiment", c.Outcome)
	}
	d.intent = c.IntentCategory
	d.say("\n  Transcript (%.0f s of audio, %s)\n", c.DurationSeconds, c.Models.Transcription)
	for _, s := range c.Segments {
		d.say("    %5.1f  %s\n", s.Start, s.Text)
	}
	if len(c.Segments) == 0 {
		d.say("    %s\n", c.RawTranscript)
	}
	d.say("\n  Summary    %s\n", c.Summary)
	for i, item := range c.ActionItems {
		d.say("  %-10s %s\n", map[bool]string{true: "To do"}[i == 0], item)
	}
	d.say("  Sentiment  %s\n  Topics     %s\n  Intent     %s\n  Next step  %s\n", c.Sentiment, strings.Join(c.KeyTopics, ", "), c.IntentCategory, c.NextStep)
	if strings.HasPrefix(c.Models.Transcription, "offline") {
		d.say("\n  This is demo quality: set OPENAI_API_KEY for the real thing.\n")
	}
	return nil
}

func (d *demo) schedule(ctx context.Context) error {
	due := clock.System{}.Now().Add(48 * time.Hour).Truncate(time.Hour)
	var followUp struct{ ID, Status string }
	err := d.api.post(ctx, "/followups", map[string]any{"call_id": d.callID, "due_date": due, "task": "Send the proposal", "notes": "Scheduled by the demo"}, &followUp)
	if err != nil {
		return err
	}
	d.say("  follow-up %s is %s, due %s\n", followUp.ID, followUp.Status, due.Format(time.RFC1123))
	return nil
}

// pause waits for the time between two requests.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollInterval):
		return nil
	}
}
