// Package seal encrypts secrets at rest: XChaCha20-Poly1305 with a key derived from SECRET_KEY (HKDF-SHA256). It refuses to
// decrypt a text in any place other than the one it was encrypted for, so that a secret cannot be moved to another row.
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

// version is the first byte of every sealed text. A new cipher gets a new version.
const version = 1

// Box encrypts and decrypts secrets. It is safe for concurrent use.
type Box struct{ aead cipher.AEAD }

// New returns a Box for a SECRET_KEY. Different purposes get different keys from the same SECRET_KEY.
func New(secretKey, purpose string) (*Box, error) {
	key, err := hkdf.Key(sha256.New, []byte(secretKey), nil, purpose, chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the sealing key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("create the sealing cipher: %w", err)
	}
	return &Box{aead}, nil
}

// Seal encrypts text. The result is the version, a random nonce and the ciphertext. place identifies where it will be stored, such
// as by a row id; it is authenticated and not stored in the result.
func (b *Box) Seal(text []byte, place string) []byte {
	nonce := make([]byte, b.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	return b.aead.Seal(append([]byte{version}, nonce...), nonce, text, []byte(place))
}

// ErrOpen means that a text was sealed with a different SECRET_KEY, purpose or place, or has been modified.
var ErrOpen = errors.New("sealed with another SECRET_KEY, or changed since")

// Open decrypts a text that was sealed for the same place. It fails with ErrOpen.
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
