package access

import (
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/conf"
)

const maxTokenMinutes = 30 * 24 * 60 // as long as auth lets a token live

// Config is what has to be known to judge tokens.
type Config struct {
	AuthURL      string `env:"AUTH_URL"`                    // of the auth service, which publishes the public keys
	TokenMinutes int    `env:"ACCESS_TOKEN_EXPIRE_MINUTES"` // the longest life of a token, as auth has it
}

// Defaults is a day, as auth's.
func Defaults() Config { return Config{TokenMinutes: 24 * 60} }

// Check says what is wrong with the configuration.
func (c Config) Check() (problems []string) {
	if !conf.IsOrigin(c.AuthURL) {
		problems = append(problems, "AUTH_URL must be where auth listens, such as http://auth:8080")
	}
	if c.TokenMinutes < 1 || c.TokenMinutes > maxTokenMinutes {
		problems = append(problems, fmt.Sprintf("ACCESS_TOKEN_EXPIRE_MINUTES must be 1 to %d, and what auth has", maxTokenMinutes))
	}
	return problems
}

func (c Config) tokenTTL() time.Duration { return time.Duration(c.TokenMinutes) * time.Minute }
