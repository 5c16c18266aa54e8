package pabbly

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/convoflow/convoflow/services/notify/internal/endpoint"
)

const secretPrefix = "whsec_"

// CheckSecret validates a webhook secret. The library would sign with an empty one.
func CheckSecret(secret string) error {
	_, err := standardKey(secret)
	return err
}

// standardKey returns the key of a secret as Standard Webhooks defines it: the decoded base64 after whsec_, or the bytes of a
// secret in any other form.
func standardKey(secret string) ([]byte, error) {
	if secret == "" {
		return nil, errors.New("is empty")
	}
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok {
		return []byte(secret), nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 {
		return nil, errors.New("must be base64 after whsec_")
	}
	return key, nil
}

// sign adds both signatures of the exact body. X-Pabbly-Signature is the hex HMAC-SHA256 with the newest secret's text as key;
// webhook-signature has one signature per secret, as Standard Webhooks requires during a rotation.
func sign(h http.Header, secrets []string, id string, at time.Time, body []byte) error {
	if len(secrets) == 0 {
		return errors.New("there is no secret to sign with")
	}
	var signatures []string
	for _, secret := range secrets {
		key, err := standardKey(secret)
		if err != nil {
			return fmt.Errorf("the secret %w", err)
		}
		w, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return fmt.Errorf("make the signer: %w", err)
		}
		signature, err := w.Sign(id, at, body)
		if err != nil {
			return fmt.Errorf("sign: %w", err)
		}
		signatures = append(signatures, signature)
	}
	h.Set("X-Pabbly-Signature", endpoint.Signature(secrets[0], body))
	h.Set(standardwebhooks.HeaderWebhookID, id)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return nil
}
