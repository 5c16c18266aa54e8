package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHelpOfSeed(t *testing.T) {
	t.Parallel()
	code, stdout, _ := convoflow(t.Context(), "seed", "--help")
	require.Zero(t, code)
	for _, part := range []string{"-leads", "-calls", "-agents", "-seed", "-data-dir", "5eed", "goes on where the last one was interrupted"} {
		require.Contains(t, stdout, part)
	}
}

func TestSeedRefusesWhatItCannotMake(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	for want, args := range map[string][]string{
		"only flags":                      {"more"},
		"at least one agent":              {"--leads", "0"},
		"at most":                         {"--leads", "2000000000"},
		"nothing is negative":             {"--calls=-1"},
		"no platform was ever started":    {},
		"flag provided but not defined":   {"--rows", "5"},
		"invalid value \"many\" for flag": {"--agents", "many"},
	} {
		code, stdout, stderr := convoflow(t.Context(), append([]string{"seed", "--data-dir", dir}, args...)...)
		require.Equal(t, exitUsage, code, "%s: %s", want, stderr)
		require.Contains(t, stdout+stderr, want)
		require.NotContains(t, stdout, "Done")
	}
	require.NoDirExists(t, dir)
}

func TestAnInterruptedSeedSaysHowToGoOn(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://convoflow@"+unused(t)+"/convoflow") // nothing answers
	t.Setenv("SECRET_KEY", "0123456789abcdef0123456789abcdef0123456789abcdef")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code, _, stderr := convoflow(ctx, "seed", "--data-dir", t.TempDir())
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "interrupted: the same command goes on from here")
}
