package key

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// purpose makes the sealing key differ from other keys that are derived from SECRET_KEY.
const purpose = "convoflow auth signing keys v1"

// seal protects private keys in the database with XChaCha20-Poly1305 under a key derived from SECRET_KEY (HKDF-SHA256).
type seal struct{ aead cipher.AEAD }

func newSeal(secret string) (seal, error) {
	k, err := hkdf.Key(sha256.New, []byte(secret), nil, purpose, chacha20poly1305.KeySize)
	if err != nil {
		return seal{}, fmt.Errorf("derive the sealing key: %w", err)
	}
	aead, err := chacha20poly1305.NewX(k)
	if err != nil {
		return seal{}, fmt.Errorf("use the sealing key: %w", err)
	}
	return seal{aead}, nil
}

// close seals a text: a random nonce, then the ciphertext. It can be opened only with the same id.
func (s seal) close(plain []byte, id string) []byte {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails, see its documentation
	return s.aead.Seal(nonce, nonce, plain, []byte(id))
}

func (s seal) open(sealed []byte, id string) ([]byte, error) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return nil, ErrSealed
	}
	plain, err := s.aead.Open(nil, sealed[:n], sealed[n:], []byte(id))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}
