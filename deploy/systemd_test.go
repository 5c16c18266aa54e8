package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A setting without a value had its comment as its value, because systemd knows comments only at the begin of a line.
func TestTheSettingsOfTheUnitHaveNoComments(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("systemd/convoflow.service")
	require.NoError(t, err)
	script := regexp.MustCompile(`sed -E '(.+)' \.env\.example`).FindSubmatch(unit)
	require.NotNil(t, script, "the header says how /etc/convoflow.env is made")
	made, err := exec.CommandContext(t.Context(), "sed", "-E", string(script[1]), filepath.Join(root, ".env.example")).Output()
	require.NoError(t, err)
	var names []string
	for line := range strings.Lines(string(made)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			names = append(names, name)
			require.NotContains(t, value, "#", name)
			require.Equal(t, strings.TrimSpace(value), value, name)
		}
	}
	require.Equal(t, exampleSettings(t), names)
}
