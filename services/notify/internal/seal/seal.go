// Package seal encrypts secrets at rest: XChaCha20-Poly1305 under a key derived from SECRET_KEY. A sealed text opens only in the
// place it was sealed for, so one row's secret cannot be moved to another.
package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// version is the first byte of every sealed text, so that the cipher can change later.
const version = 1

// purpose separates this key from others that are derived from the same SECRET_KEY.
const purpose = "convoflow notify endpoints v1"

// Box seals and opens. It is safe for concurrent use.
type Box struct{ aead cipher.AEAD }

// New makes the box of a SECRET_KEY.
func New(secretKey string) (*Box, error) {
	key, err := hkdf.Key(sha256.New, []byte(secretKey), nil, purpose, chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the sealing key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("make the sealing cipher: %w", err)
	}
	return &Box{aead}, nil
}

// Seal encrypts text. place is where it is stored, such as the table, row and column.
func (b *Box) Seal(text []byte, place string) []byte {
	nonce := make([]byte, b.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails, says crypto/rand
	return b.aead.Seal(append([]byte{version}, nonce...), nonce, text, []byte(place))
}

// ErrOpen is the error of a sealed text that was made with another SECRET_KEY or for another place, or was changed.
var ErrOpen = errors.New("sealed with another SECRET_KEY, or changed since")

// Open decrypts what Seal made for that place.
func (b *Box) Open(sealed []byte, place string) ([]byte, error) {
	n := 1 + b.aead.NonceSize()
	if len(sealed) < n || sealed[0] != version {
		return nil, ErrOpen
	}
	text, err := b.aead.Open(nil, sealed[1:n], sealed[n:], []byte(place))
	if err != nil {
		return nil, ErrOpen
	}
	return text, nil
}
