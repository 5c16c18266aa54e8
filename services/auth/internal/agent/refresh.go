package agent

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/convoflow/convoflow/libs/event"
)

// refreshToken renews a session: the session's id, a dot, and 48 bytes in base64url. Only hashes of the bytes are stored.
type refreshToken struct {
	sessionID string
	// family is the same in all tokens of the session. It proves that an older token was issued: a stranger who only knows the
	// session's id cannot end the session with an invented token.
	family [16]byte
	secret [32]byte // new with each renewal
}

func newRefreshToken(sessionID string) refreshToken {
	t := refreshToken{sessionID: sessionID}
	_, _ = rand.Read(t.family[:]) // never fails, see its documentation
	_, _ = rand.Read(t.secret[:])
	return t
}

func newNonce() []byte {
	nonce := make([]byte, sha256.Size)
	_, _ = rand.Read(nonce)
	return nonce
}

// parseRefreshToken parses the output of String.
func parseRefreshToken(text string) (t refreshToken, ok bool) {
	id, rest, _ := strings.Cut(text, ".")
	raw, err := base64.RawURLEncoding.DecodeString(rest)
	if !event.ValidID(id) || err != nil || len(raw) != len(t.family)+len(t.secret) {
		return t, false
	}
	t.sessionID = id
	copy(t.secret[:], raw[copy(t.family[:], raw):])
	return t, t.String() == text // base64 can encode the same bytes in several ways
}

func (t refreshToken) String() string {
	return t.sessionID + "." + base64.RawURLEncoding.EncodeToString(slices.Concat(t.family[:], t.secret[:]))
}

func (t refreshToken) familyIs(hash []byte) bool {
	return subtle.ConstantTimeCompare(sum(t.family[:]), hash) == 1
}
func (t refreshToken) secretIs(hash []byte) bool {
	return subtle.ConstantTimeCompare(sum(t.secret[:]), hash) == 1
}

// successor returns the token after t. It is derived from the secret, which only the phone has, and the nonce, which only the
// database has: a phone that retries gets the same one, and neither place stores anything that opens a session.
func (t refreshToken) successor(nonce []byte) refreshToken {
	mac := hmac.New(sha256.New, t.secret[:])
	mac.Write(nonce)
	mac.Sum(t.secret[:0])
	return t
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}
