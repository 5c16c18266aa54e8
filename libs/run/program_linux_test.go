package run

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThePagesOfTheProgramAreReleased(t *testing.T) {
	t.Parallel()
	require.NotEmpty(t, programMappings())
	before := residentFiles(t)
	releaseProgram()
	require.Less(t, residentFiles(t), before/2, "most of what a start needs is not needed later")
}

// residentFiles returns how many kB of files are mapped and resident.
func residentFiles(t *testing.T) (kB int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, line, _ := strings.Cut(string(status), "\nRssFile:")
	_, err = fmt.Sscanf(line, "%d kB", &kB)
	require.NoError(t, err)
	return kB
}
