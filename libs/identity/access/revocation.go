package access

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/convoflow/convoflow/libs/identity/token"
)

// How auth serves Revocations.
const (
	RevocationsPath = "/internal/revocations"
	SignatureHeader = "Convoflow-Signature"
	// MaxRevocations is the maximum number of entries of one answer.
	MaxRevocations = 5000
)

// revocationsPurpose binds the signature of auth to this use of its key.
const revocationsPurpose = "convoflow revocations v1"

// Revocation is the state of a session or an agent. A session has the version 0; of an agent the highest version counts.
type Revocation struct {
	ID      string `json:"id"`
	Version int64  `json:"version,omitempty"`
	Revoked bool   `json:"revoked"`
}

// Revocations are the sessions that have ended and the agents that are inactive, or were and are active again, since a position,
// as far as a valid access token may exist. auth signs the list.
type Revocations struct {
	// Nonce is that of the request: an old answer cannot be replayed as the answer to a new request, even if clocks differ.
	Nonce   string       `json:"nonce"`
	Entries []Revocation `json:"entries"`
	Next    string       `json:"next"` // the position from which the next request continues
	More    bool         `json:"more"` // whether to send it at once
}

// Sign returns the list as JSON, with the value of SignatureHeader. sign is token.Signer.SignText.
func (l Revocations) Sign(sign func(purpose string, text []byte) string) (body []byte, signature string, err error) {
	if body, err = json.Marshal(l); err != nil {
		return nil, "", fmt.Errorf("encode the revocations: %w", err)
	}
	return body, sign(revocationsPurpose, body), nil
}

// openRevocations verifies the answer to the request with the nonce.
func openRevocations(keys token.Keys, body []byte, signature, nonce string) (l Revocations, err error) {
	if err := token.VerifyText(keys, revocationsPurpose, body, signature); err != nil {
		return l, fmt.Errorf("verify the revocations: %w", err)
	}
	if err := json.Unmarshal(body, &l); err != nil {
		return l, fmt.Errorf("decode the revocations: %w", err)
	}
	if l.Nonce != nonce {
		return l, errors.New("the revocations answer another question")
	}
	return l, nil
}
