package calls

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/phone"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/services/calls/internal/audio"
	"github.com/convoflow/convoflow/services/calls/internal/call"
	"github.com/convoflow/convoflow/services/calls/internal/speech"
)

// Config is every setting of the service.
type Config struct {
	service.Config
	SecretKey conf.Secret `env:"SECRET_KEY"`
	CRMURL    string      `env:"CRM_URL"` // of the crm service, for clients and leads whose event has not arrived yet

	DefaultCountry string `env:"DEFAULT_COUNTRY"` // ISO 3166-1 alpha-2, of phone numbers without a country code

	StorageURL     string        `env:"STORAGE_URL"`       // bucket of the recordings, in the form of gocloud.dev/blob
	MaxAudioSizeMB int64         `env:"MAX_AUDIO_SIZE_MB"` // MiB of one recording
	OrphanAge      time.Duration `env:"AUDIO_ORPHAN_AGE"`  // age at which a file without a call is removed
	TempDir        string        `env:"AUDIO_TEMP_DIR"`    // for ffmpeg; the system's when empty
	MaxAudioHours  int           `env:"MAX_AUDIO_HOURS"`   // of one recording, measured by decoding

	AgentQuota Quota `envPrefix:"QUOTA_AGENT_"`
	TeamQuota  Quota `envPrefix:"QUOTA_TEAM_"` // of all agents together

	AudioRetentionDays      int `env:"AUDIO_RETENTION_DAYS"`      // after which a recording is removed; 0 is never
	TranscriptRetentionDays int `env:"TRANSCRIPT_RETENTION_DAYS"` // after which a transcript is removed; 0 is never

	MonthlyBudgetUSD float64 `env:"MONTHLY_BUDGET_USD"` // of the team, per month of UTC; 0 is no limit

	OpenAI      Account         `envPrefix:"OPENAI_"`
	Transcribe  Provider        `envPrefix:"TRANSCRIBE_"`
	Chat        Provider        `envPrefix:"CHAT_"`
	Workers     int             `env:"TRANSCRIBE_WORKERS"`     // concurrent calls
	Concurrency int             `env:"TRANSCRIBE_CONCURRENCY"` // requests to a provider at the same time; each may hold 25 MB of audio in memory
	Proxy       bool            `env:"OPENAI_PROXY"`           // the base URLs pass requests on to OpenAI, whose prices apply
	RetryWaits  []time.Duration `env:"TRANSCRIBE_RETRY_WAITS"` // after the first failure of a provider, the second, …; then the call has failed
}

// Quota limits uploads; 0 is no limit.
type Quota struct {
	StoredMB      int64 `env:"STORED_MB"` // MiB of all recordings
	MinutesPerDay int   `env:"MINUTES_PER_DAY"`
	PendingCalls  int   `env:"PENDING_CALLS"`
}

func (q Quota) domain() call.Quota {
	return call.Quota{StoredBytes: q.StoredMB << 20, MinutesPerDay: q.MinutesPerDay, PendingCalls: q.PendingCalls}
}

func (q Quota) check(name string) (problems []string) {
	if q.StoredMB < 0 || q.MinutesPerDay < 0 || q.PendingCalls < 0 {
		return []string{name + "_STORED_MB, _MINUTES_PER_DAY and _PENDING_CALLS must be 0, which is no limit, or more"}
	}
	return nil
}

// Account is a provider's API and our key for it.
type Account struct {
	APIKey  conf.Secret `env:"API_KEY"`
	BaseURL string      `env:"BASE_URL"` // with /v1
}

// Provider is an account and a model. OPENAI_* sets the fields that the account leaves empty.
type Provider struct {
	Account
	Model string `env:"MODEL"`
}

// Defaults returns the default settings.
func Defaults() Config {
	return Config{
		Config: service.Defaults(), MaxAudioSizeMB: 100, OrphanAge: time.Hour, DefaultCountry: "IN",
		Transcribe: Provider{Model: "gpt-transcribe"}, Chat: Provider{Model: "gpt-5.4-mini"},
		Workers: 2, Concurrency: 4,
		RetryWaits: []time.Duration{
			5 * time.Second, 30 * time.Second, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 20 * time.Minute,
		},
		MaxAudioHours: 8,
		AgentQuota:    Quota{StoredMB: 100 << 10, MinutesPerDay: 2 * 24 * 60, PendingCalls: 1000},
		TeamQuota:     Quota{PendingCalls: 10_000},
	}
}

const maxRetentionDays = 36500

func (c Config) retention() call.Retention {
	const day = 24 * time.Hour
	return call.Retention{Recordings: time.Duration(c.AudioRetentionDays) * day, Transcripts: time.Duration(c.TranscriptRetentionDays) * day}
}

// Check returns all problems of the settings.
func (c Config) Check() []string {
	problems := slices.Concat(c.Config.Check(), conf.CheckSecret("SECRET_KEY", c.SecretKey), conf.CheckOrigin("CRM_URL", c.CRMURL, "http://crm:8080"))
	if u, err := url.Parse(c.StorageURL); err != nil || u.Scheme == "" {
		problems = append(problems, "STORAGE_URL is not set to a bucket: file:///a/directory, s3://bucket?region=…, gs://bucket or azblob://container")
	}
	if _, err := phone.For(c.DefaultCountry); err != nil {
		problems = append(problems, "DEFAULT_COUNTRY: "+err.Error())
	}
	problems = append(problems, checkProvider("TRANSCRIBE", c.transcriber())...)
	problems = append(problems, checkProvider("CHAT", c.analyst())...)
	if c.MaxAudioSizeMB < 1 || c.MaxAudioSizeMB > 4096 {
		problems = append(problems, "MAX_AUDIO_SIZE_MB must be 1 to 4096")
	}
	if c.MaxAudioHours < 1 || c.MaxAudioHours > 24 {
		problems = append(problems, "MAX_AUDIO_HOURS must be 1 to 24")
	}
	problems = slices.Concat(problems, c.AgentQuota.check("QUOTA_AGENT"), c.TeamQuota.check("QUOTA_TEAM"))
	if c.Workers < 1 || c.Workers > 100 {
		problems = append(problems, "TRANSCRIBE_WORKERS must be 1 to 100")
	}
	if c.AudioRetentionDays < 0 || c.TranscriptRetentionDays < 0 || max(c.AudioRetentionDays, c.TranscriptRetentionDays) > maxRetentionDays {
		problems = append(problems, "AUDIO_RETENTION_DAYS and TRANSCRIPT_RETENTION_DAYS must be 0, which is for ever, to 36500")
	}
	if c.Concurrency < 1 || c.Concurrency > 100 {
		problems = append(problems, "TRANSCRIBE_CONCURRENCY must be 1 to 100")
	}
	if !(c.MonthlyBudgetUSD >= 0) {
		problems = append(problems, "MONTHLY_BUDGET_USD must be 0 (no limit) or more")
	}
	if c.OrphanAge < time.Minute {
		problems = append(problems, "AUDIO_ORPHAN_AGE must be 1m or more: a file without a call may be one that is just being uploaded")
	}
	return problems
}

// maxBytes is the size of the largest recording.
func (c Config) maxBytes() int64 { return c.MaxAudioSizeMB << 20 }

// ChildMemory implements run.Parent: each worker runs one ffmpeg at a time.
func (c Config) ChildMemory() int64 { return int64(c.Workers) * audio.MaxMemory }

func checkProvider(name string, p speech.Provider) (problems []string) {
	if p.Key == "" && p.BaseURL == "" {
		problems = append(problems, fmt.Sprintf("OPENAI_API_KEY is not set: set it, or %s_BASE_URL to a compatible server", name))
	}
	if p.BaseURL != "" {
		problems = append(problems, conf.CheckURL(name+"_BASE_URL (or OPENAI_BASE_URL)", p.BaseURL, "https://api.openai.com/v1")...)
	}
	if p.Model == "" {
		problems = append(problems, name+"_MODEL is empty")
	}
	return problems
}

func (c Config) transcriber() speech.Provider { return c.provider(c.Transcribe) }
func (c Config) analyst() speech.Provider     { return c.provider(c.Chat) }

func (c Config) provider(p Provider) speech.Provider {
	out := speech.Provider{BaseURL: p.BaseURL, Key: p.APIKey, Model: p.Model, Concurrency: c.Concurrency, Proxy: c.Proxy}
	if out.BaseURL == "" {
		out.BaseURL = c.OpenAI.BaseURL
	}
	if out.Key == "" {
		out.Key = c.OpenAI.APIKey
	}
	return out
}
