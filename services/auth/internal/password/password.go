// Package password hashes passwords with Argon2id, verifies the bcrypt hashes of the former system too, and has the list of the
// most common passwords. It owns the cost of a hash and how many run at once; it refuses work that would wait too long.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/text/unicode/norm"

	"github.com/convoflow/convoflow/libs/fault"
)

// The cost of a hash: the first recommendation of the OWASP Password Storage Cheat Sheet, 29 ms of one core.
const (
	memory     = 19 * 1024 // KiB
	passes     = 2
	threads    = 1
	saltLength = 16 // bytes
	sumLength  = 32 // bytes
)

const (
	maxWaiting = 64          // requests: on two cores the last of them waits for a second
	retryAfter = time.Second // the time to work off a full queue
)

// Hasher hashes passwords, one per core at a time. It is safe for concurrent use.
type Hasher struct {
	admitted chan struct{} // one slot per request that hashes or waits
	cores    chan struct{} // one slot per request that hashes
	common   map[string]bool
}

// NewHasher returns a hasher that uses that many cores.
func NewHasher(cores int) *Hasher {
	return &Hasher{admitted: make(chan struct{}, cores+maxWaiting), cores: make(chan struct{}, cores), common: commonPasswords()}
}

// Hash returns the hash of a password in PHC string format. Every byte of the password in NFC counts: phones and computers type the
// same letter as different bytes. It fails with the Unavailable fault busy if 64 requests are already waiting.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // never fails, see its documentation
	d := digest{memory: memory, passes: passes, threads: threads, salt: salt}
	err := h.onCore(ctx, func() { d.sum = d.of(norm.NFC.String(password), sumLength) })
	if err != nil {
		return "", err
	}
	return d.String(), nil
}

// Verify reports whether the hash is that of the password. The empty hash matches no password: the result is false, after the
// time that an Argon2id hash takes. A hash may be that of the password in NFC, or of its bytes as they are, as old ones are.
func (h *Hasher) Verify(ctx context.Context, hash, password string) (bool, error) {
	composed := norm.NFC.String(password)
	right, err := h.verify(ctx, hash, composed)
	if err != nil || right || composed == password {
		return right, err
	}
	return h.verify(ctx, hash, password)
}

func (h *Hasher) verify(ctx context.Context, hash, password string) (bool, error) {
	if isBcrypt(hash) {
		return h.verifyBcrypt(ctx, hash, password)
	}
	d := digest{memory: memory, passes: passes, threads: threads, salt: make([]byte, saltLength), sum: make([]byte, sumLength)}
	if hash != "" {
		var err error
		if d, err = parse(hash); err != nil {
			return false, err
		}
	}
	var same bool
	err := h.onCore(ctx, func() {
		same = subtle.ConstantTimeCompare(d.sum, d.of(password, len(d.sum))) == 1
	})
	return same && hash != "", err
}

// isBcrypt recognizes the hashes of the former system.
func isBcrypt(hash string) bool {
	return strings.HasPrefix(hash, "$2a$") || strings.HasPrefix(hash, "$2b$") || strings.HasPrefix(hash, "$2y$")
}

// verifyBcrypt uses the first 72 bytes of the password, as all bcrypt implementations do.
func (h *Hasher) verifyBcrypt(ctx context.Context, hash, password string) (bool, error) {
	var compared error
	if err := h.onCore(ctx, func() { compared = bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) }); err != nil {
		return false, err
	}
	if compared != nil && !errors.Is(compared, bcrypt.ErrMismatchedHashAndPassword) {
		return false, errors.New("read a password hash: not bcrypt")
	}
	return compared == nil, nil
}

// Outdated reports whether a hash has another algorithm or other parameters than Hash uses.
func (h *Hasher) Outdated(hash string) bool {
	d, err := parse(hash)
	return err != nil || d.memory != memory || d.passes != passes || d.threads != threads
}

// onCore runs work once a core is free.
func (h *Hasher) onCore(ctx context.Context, work func()) error {
	select {
	case h.admitted <- struct{}{}:
		defer func() { <-h.admitted }()
	default:
		return fault.New(fault.Unavailable, "busy", "Too many people log in at this moment, try again").After(retryAfter)
	}
	select {
	case h.cores <- struct{}{}:
		defer func() { <-h.cores }()
	case <-ctx.Done():
		return fmt.Errorf("wait to hash a password: %w", ctx.Err())
	}
	work()
	return nil
}

// digest is a hash with its parameters.
type digest struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
	salt    []byte
	sum     []byte
}

func (d digest) of(password string, length int) []byte {
	return argon2.IDKey([]byte(password), d.salt, d.passes, d.memory, d.threads, uint32(length))
}

// String returns the PHC string format, https://github.com/P-H-C/phc-string-format.
func (d digest) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, d.memory, d.passes, d.threads,
		base64.RawStdEncoding.EncodeToString(d.salt), base64.RawStdEncoding.EncodeToString(d.sum))
}

// parse parses the output of String. Its errors do not contain the hash.
func parse(text string) (digest, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return digest{}, errors.New("read a password hash: not Argon2id in PHC string format")
	}
	var d digest
	_, costErr := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &d.memory, &d.passes, &d.threads)
	var saltErr, sumErr error
	d.salt, saltErr = base64.RawStdEncoding.DecodeString(parts[4])
	d.sum, sumErr = base64.RawStdEncoding.DecodeString(parts[5])
	if costErr != nil || saltErr != nil || sumErr != nil || d.passes == 0 || d.threads == 0 || len(d.sum) < sumLength {
		return digest{}, errors.New("read a password hash: a part of it is wrong")
	}
	return d, nil
}
