package access

import (
	"fmt"
	"time"

	"github.com/convoflow/convoflow/libs/conf"
)

const maxTokenMinutes = 30 * 24 * 60 // the maximum lifetime of tokens in auth

// Config is the settings for verifying tokens.
type Config struct {
	AuthURL      string `env:"AUTH_URL"`                    // origin of the auth service, which serves the public keys
	TokenMinutes int    `env:"ACCESS_TOKEN_EXPIRE_MINUTES"` // lifetime of tokens; must match auth's setting
}

// Defaults has a token lifetime of one day, like auth's defaults.
func Defaults() Config { return Config{TokenMinutes: 24 * 60} }

// Check lists the problems with the configuration.
func (c Config) Check() (problems []string) {
	problems = conf.CheckOrigin("AUTH_URL", c.AuthURL, "http://auth:8080")
	if c.TokenMinutes < 1 || c.TokenMinutes > maxTokenMinutes {
		problems = append(problems, fmt.Sprintf("ACCESS_TOKEN_EXPIRE_MINUTES must be 1 to %d, and what auth has", maxTokenMinutes))
	}
	return problems
}

func (c Config) tokenTTL() time.Duration { return time.Duration(c.TokenMinutes) * time.Minute }
