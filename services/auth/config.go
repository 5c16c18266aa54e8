package auth

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/identity/token"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/services/auth/internal/key"
)

// The values of REGISTRATION.
const (
	registrationOpen   = "open"   // anyone may register
	registrationClosed = "closed" // only an admin may create accounts
)

const (
	maxTokenMinutes  = 30 * 24 * 60 // 30 days: an app that has not been used for longer logs in again
	maxRotationDays  = 365
	maxRegistrations = 1_000_000
	day              = 24 * time.Hour
)

// Config is every setting of the service.
type Config struct {
	service.Config
	SecretKey            conf.Secret `env:"SECRET_KEY"`                        // seals the signing keys in the database
	PreviousKey          conf.Secret `env:"SECRET_KEY_PREVIOUS"`               // opens what was sealed with the secret before; empty for none
	RotationDays         int         `env:"KEY_ROTATION_DAYS"`                 // how long a key signs
	Registration         string      `env:"REGISTRATION"`                      // open or closed
	RegistrationsPerHour int         `env:"RATE_LIMIT_REGISTRATIONS_PER_HOUR"` // accounts that one address may make; 0 for no limit
	TokenMinutes         int         `env:"ACCESS_TOKEN_EXPIRE_MINUTES"`       // lifetime of an access token
}

// Defaults returns the default settings. Tokens live for a day because the apps in the field do not renew them yet.
func Defaults() Config {
	shared := service.Defaults()
	shared.Access = nil // auth verifies tokens with its own keys
	return Config{Config: shared, RotationDays: 30, Registration: registrationOpen, RegistrationsPerHour: 60, TokenMinutes: 24 * 60}
}

// Check returns all problems of the settings.
func (c Config) Check() []string {
	problems := slices.Concat(c.Config.Check(), conf.CheckSecret("SECRET_KEY", c.SecretKey))
	if c.Registration != registrationOpen && c.Registration != registrationClosed {
		problems = append(problems, "REGISTRATION must be open or closed")
	}
	if c.TokenMinutes < 1 || c.TokenMinutes > maxTokenMinutes {
		problems = append(problems, fmt.Sprintf("ACCESS_TOKEN_EXPIRE_MINUTES must be 1 to %d", maxTokenMinutes))
	}
	if c.RegistrationsPerHour < 0 || c.RegistrationsPerHour > maxRegistrations {
		problems = append(problems, fmt.Sprintf("RATE_LIMIT_REGISTRATIONS_PER_HOUR must be 0, for no limit, to %d", maxRegistrations))
	}
	if c.RotationDays < 1 || c.RotationDays > maxRotationDays {
		problems = append(problems, fmt.Sprintf("KEY_ROTATION_DAYS must be 1 to %d", maxRotationDays))
	}
	return problems
}

// HeapGrowth implements run.Allocator: a hash leaves 19 MiB of garbage.
func (c Config) HeapGrowth() int { return 600 }

func (c Config) keys() key.Policy {
	return key.Policy{Signer: signer, Secret: c.SecretKey.Reveal(), Previous: c.PreviousKey.Reveal(), Rotation: time.Duration(c.RotationDays) * day, TokenTTL: c.tokenTTL()}
}

// signer returns the signer of the tokens that every service verifies.
func signer(id string, private ed25519.PrivateKey, c clock.Clock) key.Signer {
	return token.Signer{KeyID: id, Key: private, Clock: c}
}

func (c Config) tokenTTL() time.Duration { return time.Duration(c.TokenMinutes) * time.Minute }
