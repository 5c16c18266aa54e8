package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// leadsFile returns the form of an import.
func leadsFile(file string) *form {
	const boundary = "convoflow-e2e"
	body := "--" + boundary + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"leads.csv\"\r\n\r\n" + file + "\r\n--" + boundary + "--\r\n"
	return &form{Reader: strings.NewReader(body), contentType: "multipart/form-data; boundary=" + boundary, length: int64(len(body))}
}

// newImport imports a file without a new lead and returns the id of the import.
func (a *agent) newImport() string {
	a.t.Helper()
	var made struct{ ID string }
	a.post("/leads/import", leadsFile("name,phone\nNobody,\n")).must(http.StatusOK).into(&made)
	return made.ID
}

// inboundSecret signs the leads of the tests.
const inboundSecret = "a-secret-for-leads"

// signature returns the X-Pabbly-Signature of a lead.
func signature(body, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// TestInboundLead sends deliveries of Pabbly through the gateway: signed, forged and too large ones.
func TestInboundLead(t *testing.T) {
	t.Parallel()
	f := startFakes(t)
	s := newPlatform(t, f, false, append(f.settings(), "PABBLY_INBOUND_SECRET="+inboundSecret)...)
	s.start()
	a := s.newAgent()
	nobody := a.as(t, "")
	body := map[string]any{"full_name": "Priya Sharma", "phone_number": "p:+919820012345", "city": "Pune"}
	exact := `{"city":"Pune","full_name":"Priya Sharma","phone_number":"p:+919820012345"}`
	var lead struct {
		ID, Phone     string
		AssignedAgent string `json:"assigned_agent_id"`
	}
	nobody.do(http.MethodPost, "/leads/inbound", body).refused(http.StatusUnauthorized, "not_signed")
	for _, forged := range []string{signature(exact, "another"), signature(exact+" ", inboundSecret), signature(exact, ""), "sha256=", strings.Repeat("0", 64)} {
		nobody.do(http.MethodPost, "/leads/inbound", body, "X-Pabbly-Signature", forged).refused(http.StatusUnauthorized, "invalid_signature")
		a.do(http.MethodPost, "/leads/inbound", body, "X-Pabbly-Signature", forged).refused(http.StatusUnauthorized, "invalid_signature")
	}
	require.Empty(t, a.ids("/leads"))
	poll(t, jobTimeout, "crm has its copy of the agent", func() bool {
		var made struct {
			ID    string
			Agent *string `json:"assigned_agent_id"`
		}
		nobody.do(http.MethodPost, "/leads/inbound", map[string]any{"phone": "no number"}, "X-Pabbly-Signature", signature(`{"phone":"no number"}`, inboundSecret)).must(http.StatusCreated).into(&made)
		return made.Agent != nil
	})
	nobody.do(http.MethodPost, "/leads/inbound", body, "X-Pabbly-Signature", "sha256="+signature(exact, inboundSecret)).must(http.StatusCreated).into(&lead)
	require.Equal(t, "+919820012345", lead.Phone)
	require.Equal(t, a.me(), lead.AssignedAgent)
	nobody.do(http.MethodPost, "/leads/inbound", body, "X-Pabbly-Signature", signature(exact, inboundSecret)).must(http.StatusOK)
	large := map[string]any{"phone": strings.Repeat("9", 1<<17)}
	nobody.do(http.MethodPost, "/leads/inbound", large, "X-Pabbly-Signature", strings.Repeat("0", 64)).refused(http.StatusRequestEntityTooLarge, "body_too_large")
}
