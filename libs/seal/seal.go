// Package seal encrypts secrets at rest: XChaCha20-Poly1305 with a key derived from SECRET_KEY. All keys of the platform are derived by
// DeriveKey (HKDF-SHA256). It refuses to decrypt a text in any place other than the one it was encrypted for, so that a secret cannot be
// moved to another row.
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

// DeriveKey returns the key of 32 bytes of a SECRET_KEY for one purpose. Different purposes get keys that say nothing about each other.
func DeriveKey(secretKey, purpose string) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(secretKey), nil, purpose, chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of %s: %w", purpose, err)
	}
	return key, nil
}

// Box encrypts and decrypts secrets. It is safe for concurrent use.
type Box struct {
	current  cipher.AEAD
	previous cipher.AEAD // nil for none
}

// New returns a Box for a SECRET_KEY and a purpose (DeriveKey). It also opens what was sealed with the previous one, unless that is
// empty.
func New(secretKey, previous, purpose string) (*Box, error) {
	current, err := newAEAD(secretKey, purpose)
	if err != nil || previous == "" {
		return &Box{current: current}, err
	}
	old, err := newAEAD(previous, purpose)
	return &Box{current, old}, err
}

func newAEAD(secretKey, purpose string) (cipher.AEAD, error) {
	key, err := DeriveKey(secretKey, purpose)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("create the sealing cipher: %w", err)
	}
	return aead, nil
}

// Seal encrypts text. The result is the version, a random nonce and the ciphertext. place identifies where it will be stored, such
// as by a row id; it is authenticated and not stored in the result.
func (b *Box) Seal(text []byte, place string) []byte {
	nonce := make([]byte, b.current.NonceSize())
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	return b.current.Seal(append([]byte{version}, nonce...), nonce, text, []byte(place))
}

// ErrOpen means that a text was sealed with a different SECRET_KEY, purpose or place, or has been modified.
var ErrOpen = errors.New("sealed with another SECRET_KEY, or changed since")

// Open decrypts a text that was sealed for the same place. It fails with ErrOpen.
func (b *Box) Open(sealed []byte, place string) ([]byte, error) {
	text, err := open(b.current, sealed, place)
	if err != nil && b.previous != nil {
		return open(b.previous, sealed, place)
	}
	return text, err
}

func open(aead cipher.AEAD, sealed []byte, place string) ([]byte, error) {
	n := 1 + aead.NonceSize()
	if len(sealed) < n || sealed[0] != version {
		return nil, ErrOpen
	}
	text, err := aead.Open(nil, sealed[1:n], sealed[n:], []byte(place))
	if err != nil {
		return nil, ErrOpen
	}
	return text, nil
}

// Reseal seals a text again if it was sealed with the previous SECRET_KEY, so that the previous one can be dropped. Otherwise it
// returns the same text, and changed is false. It fails with ErrOpen.
func (b *Box) Reseal(sealed []byte, place string) (resealed []byte, changed bool, err error) {
	if _, err := open(b.current, sealed, place); err == nil {
		return sealed, false, nil
	}
	text, err := b.Open(sealed, place)
	if err != nil {
		return nil, false, err
	}
	return b.Seal(text, place), true, nil
}
