package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/convoflow/convoflow/libs/conf"
)

// makeSecrets runs docker/make-secrets on a new directory.
func makeSecrets(t *testing.T, environ ...string) string {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "docker/make-secrets", dir)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environ...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir
}

func readSecret(t *testing.T, dir, name string) string {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(raw)
}

func TestMakeSecretsDoesNotOverwrite(t *testing.T) {
	t.Parallel()
	dir := makeSecrets(t)
	key := readSecret(t, dir, "secret_key")
	require.Empty(t, conf.CheckSecret("SECRET_KEY", conf.Secret(key)))
	require.Equal(t, "\n", readSecret(t, dir, "openai_api_key"))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "others on the machine must not read them")

	cmd := exec.CommandContext(t.Context(), "docker/make-secrets", dir)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "OPENAI_API_KEY=sk-test"}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, key, readSecret(t, dir, "secret_key"))
	require.Equal(t, "sk-test\n", readSecret(t, dir, "openai_api_key"), "an empty one is filled in later")
}
