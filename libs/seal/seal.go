// Package seal encrypts secrets at rest: XChaCha20-Poly1305 under a key derived from SECRET_KEY (HKDF-SHA256). A sealed text
// opens only in the place it was sealed for, so that the secret of one row cannot be moved to another.
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

// version is the first byte of every sealed text, for the day the cipher changes.
const version = 1

// Box seals and opens. It is safe for concurrent use.
type Box struct{ aead cipher.AEAD }

// New makes the box of a SECRET_KEY. purpose makes its key differ from other keys that are derived from the same SECRET_KEY.
func New(secretKey, purpose string) (*Box, error) {
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

// Seal encrypts text: the version, a random nonce, the ciphertext. place is where it will be stored, such as an id.
func (b *Box) Seal(text []byte, place string) []byte {
	nonce := make([]byte, b.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails, see its documentation
	return b.aead.Seal(append([]byte{version}, nonce...), nonce, text, []byte(place))
}

// ErrOpen says that a sealed text was made with another SECRET_KEY, for another place, or was changed.
var ErrOpen = errors.New("sealed with another SECRET_KEY, or changed since")

// Open decrypts what Seal made for that place. It fails with ErrOpen.
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
