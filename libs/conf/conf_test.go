package conf_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
)

type part struct {
	Timeout time.Duration `env:"TIMEOUT"`
	Key     conf.Secret   `env:"KEY"`
}

type config struct {
	Name    string     `env:"NAME"`
	Workers int        `env:"WORKERS"`
	Loud    bool       `env:"LOUD"`
	Level   slog.Level `env:"LEVEL"`
	Hosts   []string   `env:"HOSTS"`
	One     part       `envPrefix:"ONE_"`
	Two     part       `envPrefix:"TWO_"`
	Hidden  string     `env:"-"`
}

func (c config) Check() []string {
	if c.Name == "" {
		return []string{"NAME is not set: give it one"}
	}
	return nil
}

var defaults = config{Workers: 3, One: part{Timeout: time.Second}, Two: part{Timeout: time.Minute}}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "setting")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func problems(t *testing.T, err error) []string {
	t.Helper()
	var e *conf.Error
	require.ErrorAs(t, err, &e)
	return e.Problems
}

func TestTheEnvironmentOverridesDefaults(t *testing.T) {
	t.Parallel()
	got, err := conf.Load(defaults, []string{"NAME=a=b", "TWO_TIMEOUT=5s", "HOSTS=a:1,b:2", "LEVEL=debug", "LOUD=true", "UNKNOWN=1", "WORKERS="})
	require.NoError(t, err)
	require.Equal(t, config{
		Name: "a=b", Workers: 3, Loud: true, Level: slog.LevelDebug, Hosts: []string{"a:1", "b:2"},
		One: part{Timeout: time.Second}, Two: part{Timeout: 5 * time.Second},
	}, got)
	require.Equal(t, 3, defaults.Workers)
}

func TestEveryProblemIsListedWithItsSetting(t *testing.T) {
	t.Parallel()
	_, err := conf.Load(defaults, []string{
		"WORKERS=hunter2", "LOUD=hunter2", "LEVEL=hunter2", "ONE_TIMEOUT=5s", "TWO_TIMEOUT=hunter2",
		"ONE_KEY_FILE=/does/not/exist", "TWO_KEY=hunter2", "TWO_KEY_FILE=/also/not",
	})
	require.Equal(t, []string{
		"LEVEL is not a valid log level: debug, info, warn or error",
		"LOUD is not a valid boolean: true or false",
		"NAME is not set: give it one",
		"ONE_KEY_FILE: open /does/not/exist: no such file or directory",
		"TWO_KEY and TWO_KEY_FILE are both set: keep one",
		"TWO_TIMEOUT is not a valid duration, such as 30s or 5m",
		"WORKERS is not a valid whole number",
	}, problems(t, err))
	require.NotContains(t, err.Error(), "hunter2", "a value may be a secret")
	require.Equal(t, 7, strings.Count(err.Error(), "\n  - "))
}

func TestASettingIsReadFromAFile(t *testing.T) {
	t.Parallel()
	got, err := conf.Load(defaults, []string{"NAME_FILE=" + file(t, "from a file\r\n"), "ONE_KEY_FILE=" + file(t, " spaces stay \n"), "WORKERS_FILE=" + file(t, "9")})
	require.NoError(t, err)
	require.Equal(t, "from a file", got.Name)
	require.Equal(t, " spaces stay ", got.One.Key.Reveal())
	require.Equal(t, 9, got.Workers)
}

func TestASecretIsRedacted(t *testing.T) {
	t.Parallel()
	cfg := config{One: part{Key: "hunter2"}}
	pointer := &cfg
	raw, err := json.Marshal(cfg)
	require.NoError(t, err)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).InfoContext(t.Context(), "x", "cfg", cfg, "key", cfg.One.Key)
	slog.New(slog.NewTextHandler(&log, nil)).InfoContext(t.Context(), "x", "cfg", cfg, "key", cfg.One.Key, "pointer", pointer.One)
	shown := []string{
		string(raw), log.String(), fmt.Sprint(cfg.One.Key), fmt.Errorf("wrap %w", errors.New(cfg.One.Key.String())).Error(),
		fmt.Sprintf("%v %+v %#v %s %q", cfg, cfg, cfg, cfg.One.Key, cfg.One.Key), fmt.Sprintf("%v %+v %#v", pointer, pointer, pointer),
		fmt.Sprintf(strings.Join([]string{"%x", "%X", "%d"}, " "), cfg.One.Key, cfg.One.Key, cfg.One.Key), // not checked by go vet
		fmt.Sprint(map[conf.Secret]conf.Secret{cfg.One.Key: cfg.One.Key}), conf.Usage(cfg),
	}
	for _, text := range shown {
		require.NotContains(t, text, "hunter2")
		require.NotContains(t, strings.ToLower(text), "68756e74657232", "in hexadecimal")
	}
	require.Contains(t, string(raw), "[secret]")
	require.Equal(t, "hunter2", cfg.One.Key.Reveal())
}

func TestCheckSecret(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ secret, problem string }{
		"none":              {"", "is not set"},
		"short":             {"Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUa", "is shorter than 32 characters"},
		"one letter":        {strings.Repeat("a", 64), "only 1 different"},
		"two words":         {strings.Repeat("abcdefghi", 8), "only 9 different"},
		"a placeholder":     {"please-ChangeMe-before-production-0123", "is a placeholder"},
		"the word secret":   {"my-super-secret-key-for-convoflow-2026", "is a placeholder"},
		"the example":       {"example0Kq3vTz71mXpRw5yBn2LcGh9fUaE", "is a placeholder"},
		"the alphabet":      {"abcdefghijklmnopqrstuvwxyz0123456789", "is a placeholder"},
		"digits in a row":   {"1234567890qwertyuiopasdfghjklzxcvbnm", "is a placeholder"},
		"good":              {"Jd8s0Kq3vTz71mXpRw5yBn2LcGh9fUaE", ""},
		"good, base64":      {"q0Hn3m8rZkP1yXv7LwTb5cSgJdEuA2fR+/oiMQ9t6s4=", ""},
		"good, hexadecimal": {"9f86d081884c7d659a2feaa0c55ad015", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := conf.CheckSecret("SECRET_KEY", conf.Secret(tt.secret))
			if tt.problem == "" {
				require.Empty(t, got)
				return
			}
			require.Len(t, got, 1)
			require.Contains(t, got[0], tt.problem)
			require.True(t, strings.HasPrefix(got[0], "SECRET_KEY "), "the setting")
			require.Contains(t, got[0], "openssl rand", "what to do")
			if tt.secret != "" {
				require.NotContains(t, got[0], tt.secret)
			}
		})
	}
}

func TestNewSecretIsStrongAndNew(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		s := conf.NewSecret()
		require.Empty(t, conf.CheckSecret("SECRET_KEY", conf.Secret(s)))
		require.False(t, seen[s])
		seen[s] = true
	}
}

func TestUsageNamesEverySettingWithItsDefault(t *testing.T) {
	t.Parallel()
	usage := conf.Usage(defaults)
	for _, line := range []string{"NAME", "WORKERS 3", "LOUD false", "LEVEL INFO", "HOSTS []", "ONE_TIMEOUT 1s", "TWO_TIMEOUT 1m0s", "TWO_KEY [secret]"} {
		require.Contains(t, strings.Join(strings.Fields(usage), " ")+" ", line+" ")
	}
	require.NotContains(t, usage, "Hidden")
	require.Equal(t, 9, strings.Count(usage, "\n"))
}

type optional struct {
	Group *part `envPrefix:"GROUP_"`
}

func (optional) Check() []string { return nil }

// A nil pointer omits a group of settings that a service does not have.
func TestAGroupOfSettingsCanBeOmitted(t *testing.T) {
	t.Parallel()
	environ := []string{"GROUP_TIMEOUT=1m"}
	with, err := conf.Load(optional{Group: &part{}}, environ)
	require.NoError(t, err)
	require.Equal(t, time.Minute, with.Group.Timeout)
	require.Contains(t, strings.Join(strings.Fields(conf.Usage(with)), " "), "GROUP_TIMEOUT 1m0s")

	without, err := conf.Load(optional{}, environ)
	require.NoError(t, err)
	require.Nil(t, without.Group)
	require.NotContains(t, conf.Usage(without), "GROUP_")
}

// It sets environment variables that no other test uses.
func TestExportFiles(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"CONFTEST_HEADERS_FILE": file(t, "authorization=hunter2\n"), "CONFTEST_PLAIN": "unchanged", "CONFTEST_EMPTY_FILE": "", "OTHERTEST_X_FILE": file(t, "x"),
	} {
		require.NoError(t, os.Setenv(name, value))
	}
	require.NoError(t, conf.ExportFiles("CONFTEST_"))
	require.Equal(t, "authorization=hunter2", os.Getenv("CONFTEST_HEADERS"))
	require.Equal(t, "unchanged", os.Getenv("CONFTEST_PLAIN"))
	require.Empty(t, os.Getenv("CONFTEST_EMPTY"))
	require.Empty(t, os.Getenv("OTHERTEST_X"))

	require.NoError(t, os.Setenv("BADCONFTEST_A_FILE", "/no/such/a"))
	require.NoError(t, os.Setenv("BADCONFTEST_B_FILE", "/no/such/b"))
	require.Len(t, problems(t, conf.ExportFiles("BADCONFTEST_")), 2)
}
