package notify_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/event"
	"github.com/convoflow/convoflow/libs/service/servicetest"
	"github.com/convoflow/convoflow/services/notify"
	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

// webhook is a webhook as the API shows it.
type webhook struct {
	ID             string   `json:"id"`
	URL            string   `json:"url"`
	Description    string   `json:"description"`
	Events         []string `json:"events"`
	Profile        string   `json:"profile"`
	RateLimit      *int     `json:"rate_limit_per_second"`
	Enabled        bool     `json:"enabled"`
	DisabledReason *string  `json:"disabled_reason"`
	Origin         string   `json:"origin"`
	PreviousUntil  *string  `json:"previous_secret_until"`
	Secret         string   `json:"secret"`
}

// trial is the result of a test event.
type trial struct {
	Event      string         `json:"event"`
	EventID    string         `json:"event_id"`
	Payload    map[string]any `json:"payload"`
	Succeeded  bool           `json:"succeeded"`
	StatusCode int            `json:"status_code"`
	Error      *string        `json:"error"`
	Answer     string         `json:"answer"`
}

func (w *world) create(body string) webhook {
	w.T.Helper()
	return into[webhook](w, w.Do(w.Admin, "POST", "/webhooks", body).Is(http.StatusCreated))
}

func (w *world) test(id string) servicetest.Answer {
	w.T.Helper()
	return w.Do(w.Admin, "POST", "/webhooks/"+id+"/test", `{"event":"transcription.completed"}`).Is(http.StatusOK)
}

func keyedMAC(key, content string) []byte {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(content))
	return h.Sum(nil)
}

// standardOf returns the signature of Standard Webhooks that a secret makes of a request.
func standardOf(t *testing.T, secret string, r request) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	require.NoError(t, err)
	signed := r.header.Get("webhook-id") + "." + r.header.Get("webhook-timestamp") + "." + r.body
	return "v1," + base64.StdEncoding.EncodeToString(keyedMAC(string(key), signed))
}

func TestAWebhookIsMadeChangedAndDeleted(t *testing.T) {
	t.Parallel()
	w := build(t)
	url := w.cfg.WebhookURL.Reveal()
	w.cfg.WebhookURL = ""
	w.start()
	body := fmt.Sprintf(`{"url":%q,"description":"quotes","events":["lead.*"],"rate_limit_per_second":5}`, url)
	first := w.Do(w.Admin, "POST", "/webhooks", body, "Idempotency-Key", "k1").Is(http.StatusCreated)
	made := into[webhook](w, first)
	require.Equal(t, "pabbly", made.Profile)
	require.True(t, strings.HasPrefix(made.Secret, "whsec_"))
	require.True(t, made.Enabled)
	require.Equal(t, "api", made.Origin)
	again := into[webhook](w, w.Do(w.Admin, "POST", "/webhooks", body, "Idempotency-Key", "k1").Is(http.StatusCreated))
	require.Equal(t, made.ID, again.ID)
	require.Empty(t, again.Secret, "the secret is shown once")
	w.Do(w.Admin, "POST", "/webhooks", `{"url":"https://example.com"}`, "Idempotency-Key", "k1").Fails(409, "idempotency_key_reused")

	read := w.Get(w.Admin, "/webhooks/"+made.ID).Is(http.StatusOK)
	tag := read.Header.Get("ETag")
	w.Get(w.Admin, "/webhooks/"+made.ID, "If-None-Match", tag).Is(http.StatusNotModified)
	change := `{"description":"offers","events":["followup.due"],"profile":"standard","rate_limit_per_second":null}`
	w.Do(w.Admin, "PATCH", "/webhooks/"+made.ID, change, "If-Match", tag).Is(http.StatusOK)
	changed := into[webhook](w, w.Get(w.Admin, "/webhooks/"+made.ID, "If-None-Match", tag).Is(http.StatusOK))
	require.Equal(t, "offers", changed.Description)
	require.Equal(t, []string{"followup.due"}, changed.Events)
	require.Equal(t, "standard", changed.Profile)
	require.Nil(t, changed.RateLimit)
	w.Do(w.Admin, "PATCH", "/webhooks/"+made.ID, `{"enabled":false}`, "If-Match", tag).Fails(412, "precondition_failed")
	require.Equal(t, "paused", *into[webhook](w, w.Do(w.Admin, "PATCH", "/webhooks/"+made.ID, `{"enabled":false}`).Is(200)).DisabledReason)

	second := w.create(`{"url":"https://example.com/x","enabled":false}`)
	require.Equal(t, []string{"*"}, second.Events)
	require.Equal(t, []string{second.ID, made.ID}, w.Get(w.Admin, "/webhooks").IDs(), "newest first")
	page := w.Get(w.Admin, "/webhooks?limit=1").Is(200)
	require.Equal(t, []string{second.ID}, page.IDs())
	require.Equal(t, []string{made.ID}, w.Get(w.Admin, page.Next()).IDs())

	w.Do(w.Admin, "DELETE", "/webhooks/"+second.ID, "").Is(http.StatusNoContent)
	for _, operation := range [][2]string{{"GET", ""}, {"PATCH", `{"enabled":true}`}, {"DELETE", ""}} {
		w.Do(w.Admin, operation[0], "/webhooks/"+second.ID, operation[1]).Fails(404, "webhook_not_found")
	}
	w.Do(w.Admin, "POST", "/webhooks/"+second.ID+"/test", `{"event":"followup.due"}`).Fails(404, "webhook_not_found")
	w.Do(w.Admin, "POST", "/webhooks/"+second.ID+"/rotate-secret", "").Fails(404, "webhook_not_found")
	require.Equal(t, []string{made.ID}, w.Get(w.Admin, "/webhooks").IDs())

	for _, secret := range []string{"hush-hush", made.Secret, strings.TrimPrefix(made.Secret, "whsec_")} {
		require.NotContains(t, first.Body[:strings.Index(first.Body, `"secret"`)], secret)
		require.NotContains(t, read.Body+w.Log.String(), secret)
	}
	require.Regexp(t, `^http://127\.0\.0\.1:\d+/…$`, changed.URL)
}

func TestWrongWebhooks(t *testing.T) {
	t.Parallel()
	w := build(t)
	w.cfg.WebhookURL = ""
	w.start()
	for body, field := range map[string]string{
		`{}`:                           "url",
		`{"url":"connect.pabbly.com"}`: "url",
		`{"url":"ftp://x/y"}`:          "url",
		`{"url":"https://u:pass@x/"}`:  "url",
		`{"url":"https://169.254.169.254/latest"}`:                    "url",
		`{"url":"https://x","events":[]}`:                             "events",
		`{"url":"https://x","events":["lead.imported","lead.bogus"]}`: "", // an item
		`{"url":"https://x","events":["*","*"]}`:                      "events",
		`{"url":"https://x","profile":"xml"}`:                         "profile",
		`{"url":"https://x","rate_limit_per_second":0}`:               "rate_limit_per_second",
	} {
		refused := w.Do(w.Admin, "POST", "/webhooks", body).Fails(422, "validation_error")
		require.Equal(t, []string{field}, slices.Compact(refused.Wrong()), body)
		require.NotContains(t, refused.Body, "pass@")
	}
	for method, path := range map[string]string{"POST": "/webhooks", "PATCH": "/webhooks/" + event.NewID()} {
		all := w.Do(w.Admin, method, path, `{"url":"https://u:p@x/","profile":"xml","rate_limit_per_second":0}`).Fails(422, "validation_error")
		require.ElementsMatch(t, []string{"url", "profile", "rate_limit_per_second"}, all.Wrong(), "all at once")
	}
	w.Do(w.Agent, "POST", "/webhooks", `{"url":"https://x"}`).Fails(403, "admin_only")
	made := w.create(`{"url":"https://example.com","enabled":false}`)
	w.Do(w.Admin, "PATCH", "/webhooks/"+made.ID, `{}`).Fails(422, "validation_error")
	w.Do(w.Admin, "PATCH", "/webhooks/"+made.ID, `{"url":"x"}`).Fails(422, "validation_error")
	w.Do(w.Admin, "POST", "/webhooks/"+made.ID+"/test", `{"event":"lead.bogus"}`).Fails(422, "validation_error")
	w.Do(w.Admin, "POST", "/webhooks/"+made.ID+"/rotate-secret", `{"overlap_hours":-1}`).Fails(422, "validation_error")
}

// A secret is rotated, and events go on being signed with both.
func TestASecretIsRotated(t *testing.T) {
	t.Parallel()
	w := build(t)
	url := w.cfg.WebhookURL.Reveal()
	w.cfg.WebhookURL = ""
	w.start()
	made := w.create(fmt.Sprintf(`{"url":%q}`, url))
	w.test(made.ID)
	rotated := into[webhook](w, w.Do(w.Admin, "POST", "/webhooks/"+made.ID+"/rotate-secret", "").Is(200))
	require.NotEqual(t, made.Secret, rotated.Secret)
	require.NotNil(t, rotated.PreviousUntil)
	w.test(made.ID)
	ended := into[webhook](w, w.Do(w.Admin, "POST", "/webhooks/"+made.ID+"/rotate-secret", `{"overlap_hours":0}`).Is(200))
	require.Nil(t, ended.PreviousUntil)
	w.test(made.ID)
	got := w.requests()
	require.Len(t, got, 3)
	for i, secrets := range [][]string{{made.Secret}, {rotated.Secret, made.Secret}, {ended.Secret}} {
		var want []string
		for _, secret := range secrets {
			want = append(want, standardOf(t, secret, got[i]))
		}
		require.Equal(t, want, strings.Fields(got[i].header.Get("webhook-signature")))
		require.Equal(t, hex.EncodeToString(keyedMAC(secrets[0], got[i].body)), got[i].header.Get("X-Pabbly-Signature"))
	}
}

func TestATestEventHasTheRealShape(t *testing.T) {
	t.Parallel()
	w := build(t)
	url := w.cfg.WebhookURL.Reveal()
	w.cfg.WebhookURL = ""
	allowed := w.cfg.AllowPrivate
	w.cfg.AllowPrivate = append(slices.Clone(allowed), "169.254.0.0/16")
	w.start()
	guarded := w.create(`{"url":"https://169.254.169.254/latest","enabled":false}`)
	w.Stop()
	w.cfg.AllowPrivate = allowed // no longer
	w.start()
	paused := w.create(fmt.Sprintf(`{"url":%q,"enabled":false,"events":["lead.*"]}`, url))
	for _, eventType := range endpoint.EventTypes() {
		got := into[trial](w, w.Do(w.Admin, "POST", "/webhooks/"+paused.ID+"/test", fmt.Sprintf(`{"event":%q}`, eventType)).Is(200))
		require.True(t, got.Succeeded)
		require.JSONEq(t, `{"status":"success"}`, got.Answer)
		require.Equal(t, eventType, got.Payload["event"])
		require.Equal(t, true, got.Payload["is_test"])
		for key, value := range got.Payload {
			require.NotNil(t, value, "%s: a sample shows every field: %s", eventType, key)
		}
	}
	sent := w.requests()
	require.Len(t, sent, len(endpoint.EventTypes()))
	require.Equal(t, standardOf(t, paused.Secret, sent[0]), sent[0].header.Get("webhook-signature"))
	w.answers(func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "no", http.StatusTeapot) })
	refused := into[trial](w, w.test(paused.ID))
	require.False(t, refused.Succeeded)
	require.Equal(t, http.StatusTeapot, refused.StatusCode)
	require.Equal(t, "address_refused", *into[trial](w, w.test(guarded.ID)).Error, "the same guard")
	require.Empty(t, w.list(""), "a test is no delivery")
}

func TestAPausedWebhookGetsItsEventsLater(t *testing.T) {
	t.Parallel()
	w := build(t)
	url := w.cfg.WebhookURL.Reveal()
	w.cfg.WebhookURL = ""
	w.start()
	made := w.create(fmt.Sprintf(`{"url":%q,"events":["transcription.*"],"profile":"pabbly-nested"}`, url))
	w.Do(w.Admin, "PATCH", "/webhooks/"+made.ID, `{"enabled":false}`).Is(200)
	failed := call()
	failed.Status, failed.ErrorCode, failed.Retryable = "failed", new("audio_unreadable"), new(false)
	w.publish(events.AgentRegistered.New(at, agent), events.TranscriptionFailed.New(at, failed))
	w.awaitStatus(failed.CallID, "held")
	require.Empty(t, w.requests())
	w.Do(w.Admin, "PATCH", "/webhooks/"+made.ID, `{"enabled":true}`).Is(200)
	var got struct {
		Event string         `json:"event"`
		Data  map[string]any `json:"data"`
	}
	require.NoError(t, json.Unmarshal([]byte(w.awaitRequests(1)[0].body), &got))
	require.Equal(t, "transcription.failed", got.Event)
	require.Equal(t, "audio_unreadable", got.Data["error_code"])
	require.Equal(t, false, got.Data["retryable"])
}

func TestTheOtherWebhooksHearOfADisabledOne(t *testing.T) {
	t.Parallel()
	w := build(t)
	url := w.cfg.WebhookURL.Reveal()
	w.cfg.WebhookURL = ""
	w.start()
	gone := w.create(fmt.Sprintf(`{"url":%q,"description":"old workflow","events":["transcription.*"]}`, url+"/gone"))
	w.create(fmt.Sprintf(`{"url":%q,"events":["webhook.*"],"profile":"standard"}`, url))
	w.answers(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/gone") {
			rw.WriteHeader(http.StatusGone)
		}
	})
	w.publish(events.AgentRegistered.New(at, agent), events.TranscriptionCompleted.New(at, call()))
	var got struct {
		Type string         `json:"type"`
		Data map[string]any `json:"data"`
	}
	require.NoError(t, json.Unmarshal([]byte(w.awaitRequests(2)[1].body), &got))
	require.Equal(t, "webhook.endpoint_disabled", got.Type)
	require.Equal(t, gone.ID, got.Data["webhook_id"])
	require.Equal(t, "old workflow", got.Data["description"])
	require.Equal(t, "gone", got.Data["reason"])
	require.Equal(t, "gone", *into[webhook](w, w.Get(w.Admin, "/webhooks/"+gone.ID).Is(200)).DisabledReason)
}

// Anyone may ask, because only who has received an event knows its signature.
func TestAReceiverAsksWhetherAnEventIsOurs(t *testing.T) {
	t.Parallel()
	w := build(t)
	w.start()
	w.publish(events.AgentRegistered.New(at, agent), events.TranscriptionCompleted.New(at, call()))
	got := w.awaitRequests(1)[0]
	id, signature := got.header.Get("webhook-id"), got.header.Get("X-Pabbly-Signature")
	forged := strings.Repeat("0", len(signature))
	for _, tt := range []struct {
		id, signature string
		want          bool
	}{
		{id, signature, true}, {id, "sha256=" + signature, true}, {id, strings.ToUpper(signature), true},
		{id, forged, false}, {id, signature[1:], false}, {event.NewID(), signature, false}, {"no-id", signature, false},
	} {
		a := w.Do(w.Caller(""), "GET", "/webhooks/verify/"+tt.id+"?signature="+tt.signature, "").Is(200).Object()
		require.Equal(t, tt.want, a["valid"], tt)
		require.Equal(t, tt.want, a["event"] != nil, "only a valid signature learns anything")
	}
	w.Do(w.Caller(""), "GET", "/webhooks/verify/"+id, "").Fails(422, "validation_error")
}

// The receiver of the environment is configured there, and can be paused.
func TestTheWebhookOfTheEnvironment(t *testing.T) {
	t.Parallel()
	w := build(t)
	w.start()
	id := w.Get(w.Admin, "/webhooks").IDs()[0]
	path := "/webhooks/" + id
	w.Do(w.Admin, "PATCH", path, `{"url":"https://example.com"}`).Fails(409, "webhook_from_environment")
	w.Do(w.Admin, "POST", path+"/rotate-secret", "").Fails(409, "webhook_from_environment")
	w.Do(w.Admin, "DELETE", path, "").Fails(409, "webhook_from_environment")
	w.create(`{"url":"https://example.com/x","enabled":false}`)
	w.Do(w.Admin, "PATCH", path, `{"enabled":false}`).Is(200)
	w.Stop()
	w.cfg.WebhookURL += "-moved"
	w.start()
	moved := into[webhook](w, w.Get(w.Admin, path).Is(200))
	require.Equal(t, "environment", moved.Origin)
	require.Equal(t, "paused", *moved.DisabledReason, "a new URL does not resume what a person has paused")
	w.Do(w.Admin, "PATCH", path, `{"enabled":true}`).Is(200)
	w.Stop()
	w.cfg.WebhookURL = ""
	w.start()
	require.Equal(t, "not_configured", *into[webhook](w, w.Get(w.Admin, path).Is(200)).DisabledReason)
	w.Do(w.Admin, "DELETE", path, "").Is(http.StatusNoContent)
	require.Len(t, w.Get(w.Admin, "/webhooks").IDs(), 1)
}

func TestTheContractListsTheEvents(t *testing.T) {
	t.Parallel()
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Enum []string
			}
		}
	}
	raw, err := notify.Contract().OpenAPI()
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(raw, &doc))
	schemas := doc.Components.Schemas
	require.Equal(t, endpoint.EventTypes(), schemas["EventType"].Enum)
	filters := []string{endpoint.Everything}
	for _, eventType := range endpoint.EventTypes() {
		about, _, _ := strings.Cut(eventType, ".")
		filters = append(filters, about+".*")
	}
	require.Equal(t, append(slices.Compact(filters), endpoint.EventTypes()...), schemas["EventFilter"].Enum)
}
