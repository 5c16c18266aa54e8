package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadmeCommandsWork runs the README's curl commands as they stand there, against an all-embedded platform.
func TestReadmeCommandsWork(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```bash\n(API=.*?)```").FindSubmatch(readme)
	require.NotNil(t, blocks, "the README has a block of curl commands that begins with API=")

	s := newPlatform(t, fakes{}, false)
	s.start()
	walk := strings.Replace(string(blocks[1]), "http://127.0.0.1:8000", s.url, 1)
	command := exec.CommandContext(t.Context(), "bash", "-c", walk)
	command.Dir = "../.."
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, want := range []string{`"role":"admin"`, `"status":"completed"`, "offline-pocketsphinx", "\n206\n", `"task":"Send the proposal"`, `"event":"followup.scheduled"`, `"event":"transcription.completed"`, `"x_pabbly_signature":true,"webhook_signature":true`} {
		require.Contains(t, string(out), want)
	}
	require.NotContains(t, string(out), `"detail"`, "no command got an error")
}
