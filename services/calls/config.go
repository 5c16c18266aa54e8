package calls

import (
	"fmt"
	"net/url"
	"time"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/calls/internal/speech"
)

// Config is the settings of the service.
type Config struct {
	HTTP      run.HTTPConfig
	Admin     run.AdminConfig
	Database  pg.Config
	Kafka     bus.Config
	Log       telemetry.Config
	SecretKey conf.Secret `env:"SECRET_KEY"`
	Access    access.Config
	CRMURL    string `env:"CRM_URL"` // asked for a client that no event told of yet

	StorageURL     string        `env:"STORAGE_URL"`       // bucket of the recordings, as gocloud.dev/blob writes it
	MaxAudioSizeMB int64         `env:"MAX_AUDIO_SIZE_MB"` // MiB of one recording
	OrphanAge      time.Duration `env:"AUDIO_ORPHAN_AGE"`  // of a file without a call when it is removed
	TempDir        string        `env:"AUDIO_TEMP_DIR"`    // for ffmpeg; the system's when empty

	OpenAI     Account         `envPrefix:"OPENAI_"`
	Transcribe Provider        `envPrefix:"TRANSCRIBE_"`
	Chat       Provider        `envPrefix:"CHAT_"`
	Workers    int             `env:"TRANSCRIBE_WORKERS"`     // calls at the same time; each may hold 25 MB of audio in memory
	RetryWaits []time.Duration `env:"TRANSCRIBE_RETRY_WAITS"` // after the first failure of a provider, the second, …; then the call has failed
}

// Account is where a provider is and how it knows us.
type Account struct {
	APIKey  conf.Secret `env:"API_KEY"`
	BaseURL string      `env:"BASE_URL"` // with /v1
}

// Provider is an account and a model. What the account leaves open OPENAI_* says.
type Provider struct {
	Account
	Model string `env:"MODEL"`
}

// Defaults are the settings of a service in a container of its own.
func Defaults() Config {
	return Config{
		HTTP: run.HTTPConfig{Addr: ":8080", H2C: true}, Admin: run.AdminConfig{Addr: ":9090"},
		Database: pg.Defaults(), Kafka: bus.Defaults(), Access: access.Defaults(), Log: telemetry.Defaults(),
		MaxAudioSizeMB: 100, OrphanAge: time.Hour,
		Transcribe: Provider{Model: "whisper-1"}, Chat: Provider{Model: "gpt-4o-mini"},
		Workers:    2,
		RetryWaits: []time.Duration{2 * time.Second, 10 * time.Second, 30 * time.Second, 2 * time.Minute, 5 * time.Minute},
	}
}

// TelemetryConfig is how the service logs.
func (c Config) TelemetryConfig() telemetry.Config { return c.Log }

// Check lists everything that is wrong with the settings.
func (c Config) Check() []string {
	problems := append(c.Database.Check(), c.Kafka.Check()...)
	problems = append(problems, c.Log.Check()...)
	problems = append(problems, conf.CheckSecret("SECRET_KEY", c.SecretKey)...)
	problems = append(problems, c.Access.Check()...)
	problems = append(problems, checkURL("CRM_URL", c.CRMURL, "http://crm:8080")...)
	if u, err := url.Parse(c.StorageURL); err != nil || u.Scheme == "" {
		problems = append(problems, "STORAGE_URL is not set to a bucket: file:///a/directory, s3://bucket?region=…, gs://bucket or azblob://container")
	}
	problems = append(problems, checkProvider("TRANSCRIBE", c.transcriber())...)
	problems = append(problems, checkProvider("CHAT", c.analyst())...)
	if c.MaxAudioSizeMB < 1 || c.MaxAudioSizeMB > 4096 {
		problems = append(problems, "MAX_AUDIO_SIZE_MB must be 1 to 4096")
	}
	if c.Workers < 1 || c.Workers > 100 {
		problems = append(problems, "TRANSCRIBE_WORKERS must be 1 to 100")
	}
	if c.OrphanAge < time.Minute {
		problems = append(problems, "AUDIO_ORPHAN_AGE must be 1m or more: a file without a call may be one that is just being uploaded")
	}
	return problems
}

func checkURL(name, value, example string) []string {
	if value == "" {
		return []string{name + " is not set: " + example}
	}
	if u, err := url.Parse(value); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return []string{name + " is not an http or https URL such as " + example}
	}
	return nil
}

func checkProvider(name string, p speech.Provider) (problems []string) {
	if p.Key == "" && p.BaseURL == "" {
		problems = append(problems, fmt.Sprintf("OPENAI_API_KEY is not set: set it, or %s_BASE_URL to a compatible server", name))
	}
	if p.BaseURL != "" {
		problems = append(problems, checkURL(name+"_BASE_URL (or OPENAI_BASE_URL)", p.BaseURL, "https://api.openai.com/v1")...)
	}
	if p.Model == "" {
		problems = append(problems, name+"_MODEL is empty")
	}
	return problems
}

func (c Config) transcriber() speech.Provider { return c.provider(c.Transcribe) }
func (c Config) analyst() speech.Provider     { return c.provider(c.Chat) }

func (c Config) provider(p Provider) speech.Provider {
	out := speech.Provider{BaseURL: p.BaseURL, Key: p.APIKey, Model: p.Model}
	if out.BaseURL == "" {
		out.BaseURL = c.OpenAI.BaseURL
	}
	if out.Key == "" {
		out.Key = c.OpenAI.APIKey
	}
	return out
}
