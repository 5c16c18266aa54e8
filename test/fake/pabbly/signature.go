package pabbly

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// tolerance is how old, or how far ahead, the timestamp of a signature may be. It is that of the reference libraries of
// Standard Webhooks.
const tolerance = 5 * time.Minute

// checkSignatures verifies a delivery by both schemes. X-Pabbly-Signature is the hex HMAC-SHA256 of the body with the secret's
// text as key.
func checkSignatures(secret string, h http.Header, body []byte, now time.Time) []string {
	if secret == "" {
		return nil
	}
	var problems []string
	if want := hex.EncodeToString(mac([]byte(secret), body)); !hmac.Equal([]byte(h.Get("X-Pabbly-Signature")), []byte(want)) {
		problems = problem("X-Pabbly-Signature is not the HMAC of the body")
	}
	if err := verifyStandard(secret, h, body, now); err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

// verifyStandard checks the symmetric signature of
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: base64 of the HMAC-SHA256 of
// "id.timestamp.body"; the header lists several during a rotation, and one valid signature is enough.
func verifyStandard(secret string, h http.Header, body []byte, now time.Time) error {
	id, stamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	if id == "" || strings.Contains(id, ".") {
		return fmt.Errorf("webhook-id %q is empty or has a dot", id)
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return fmt.Errorf("webhook-timestamp %q is not in Unix seconds", stamp)
	}
	if age := now.Sub(time.Unix(seconds, 0)); age.Abs() > tolerance {
		return fmt.Errorf("webhook-timestamp is %s old", age)
	}
	key, err := standardKey(secret)
	if err != nil {
		return err
	}
	want := mac(key, []byte(id+"."+stamp+"."+string(body)))
	for signature := range strings.FieldsSeq(h.Get("webhook-signature")) {
		encoded, ok := strings.CutPrefix(signature, "v1,")
		got, err := base64.StdEncoding.DecodeString(encoded)
		if ok && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return fmt.Errorf("webhook-signature has no v1 signature that holds")
}

// standardKey returns the decoded base64 after whsec_, or the bytes of a secret in another form.
func standardKey(secret string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(secret, "whsec_")
	if !ok {
		return []byte(secret), nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("decode the whsec_ secret: %w", err)
	}
	return key, nil
}

func mac(key, content []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(content)
	return h.Sum(nil)
}
