package inbox

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	leadTimeout = 30 * time.Second
	maxAnswer   = 256 << 10 // bytes of the platform's answer
)

// Sender says where the page's button sends a sample lead, as Pabbly Connect would.
type Sender struct {
	URL    string // of POST /leads/inbound
	Secret string // signs the lead
}

// SendLeads adds the button to the page. Call it before Handler.
func (in *Inbox) SendLeads(s Sender) { in.sender = &s }

// sendLead sends a new sample lead, and shows the answer: the page for a browser, and otherwise the JSON as it came.
func (in *Inbox) sendLead(w http.ResponseWriter, r *http.Request) {
	status, answer, err := in.sender.send(r.Context(), r.Host, r.Header.Get("Traceparent"))
	if err != nil {
		http.Error(w, "The platform did not answer.", http.StatusBadGateway)
		return
	}
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(answer)
		return
	}
	var lead struct{ ID, Detail string }
	_ = json.Unmarshal(answer, &lead) // an answer that is no JSON has neither
	said := "refused: " + lead.Detail
	if lead.ID != "" {
		said = lead.ID
	}
	http.Redirect(w, r, "/inbox?lead="+url.QueryEscape(said), http.StatusSeeOther)
}

// send sends a lead. host is a name of the platform that it answers to.
func (s Sender) send(ctx context.Context, host, traceparent string) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, leadTimeout)
	defer cancel()
	body, err := sample()
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	mac := hmac.New(sha256.New, []byte(s.Secret))
	mac.Write(body)
	req.Host = host
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Pabbly-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	if traceparent != "" {
		req.Header.Set("Traceparent", traceparent)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("send a sample lead: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, answer, err
}

// sample returns a lead as a form's automation sends it, each time with another phone number.
func sample() ([]byte, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(100_000))
	if err != nil {
		return nil, fmt.Errorf("draw a phone number: %w", err)
	}
	return json.Marshal(map[string]any{
		"full_name": "Meera Nair", "phone_number": fmt.Sprintf("p:+9198200%05d", n), "email_address": fmt.Sprintf("meera.%05d@example.com", n),
		"campaign_name": "Diwali offer", "adset_name": "Pune 25-34", "form_name": "Course enquiry", "course": "Data Science", "What is your budget?": 50000,
	})
}
