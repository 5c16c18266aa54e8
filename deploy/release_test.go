package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// lint runs a linter of a module of its own: their dependencies do not fit together with those of this one.
func lint(t *testing.T, tool string, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(untilDeadline(t), "go", append([]string{"tool", tool}, args...)...)
	cmd.Dir = filepath.Join("lint", tool)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestWorkflowsAreValid(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for i := range files {
		files[i], err = filepath.Abs(files[i])
		require.NoError(t, err)
	}
	out, err := lint(t, "actionlint", nil, files...)
	require.NoError(t, err, out)
	// A tag can be moved by an attacker who controls the action's repository.
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, used := range regexp.MustCompile(`uses: (.*)`).FindAllStringSubmatch(string(raw), -1) {
			require.Regexp(t, `^[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+`, used[1], "%s: an action is pinned by commit", file)
		}
	}
}

func TestKubernetesManifestsPassKubeScore(t *testing.T) {
	t.Parallel()
	for _, e := range environments {
		out, err := kubeScore(t, asText(t, overlay(e)))
		require.NoError(t, err, "%s: %s", e, out)
	}
	// It complains about manifests that are bad.
	manifests := asText(t, overlay("prod"))
	for _, bad := range []struct{ good, bad, complaint string }{
		{"readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "The pod has a container with a writable root filesystem"},
		{"path: /ready", "path: /health", "Container has the same readiness and liveness probe"},
		{"convoflow/crm:0.1.0", "convoflow/crm:latest", "Image with latest tag"},
	} {
		require.Contains(t, manifests, bad.good)
		out, err := kubeScore(t, strings.Replace(manifests, bad.good, bad.bad, 1))
		require.Error(t, err, bad.bad)
		require.Contains(t, out, "[CRITICAL]")
		require.Contains(t, out, bad.complaint)
	}
}

// asText renders a folder, as kubectl kustomize does.
func asText(t *testing.T, folder string) string {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	require.NoError(t, err)
	text, err := built.AsYaml()
	require.NoError(t, err)
	return string(text)
}

func kubeScore(t *testing.T, manifests string) (string, error) {
	return lint(t, "kube-score", []byte(manifests), "score", "-", "--output-format", "ci", "--kubernetes-version", "v1.34",
		"--ignore-test", "container-resources", // a CPU limit throttles; memory limits are tested
		"--ignore-test", "container-ephemeral-storage-request-and-limit", // the root is read-only, /tmp of calls has a limit
		"--ignore-test", "container-image-pull-policy", // versions are published once, better: digests
		"--ignore-test", "pod-networkpolicy") // it wants egress rules of its own form; the reach is computed in a test
}

// Only what has a new version is released.
func TestAReleaseIsWhatHasANewVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sh := func(script string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "bash", "-euc", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(script string) string {
		out, err := sh(script)
		require.NoError(t, err, out)
		return out
	}
	script, err := filepath.Abs("release/changed")
	require.NoError(t, err)
	must(`git init -q; mkdir -p deploy/release services/{auth,calls,crm,notify} gateway; cp ` + script + ` deploy/release/
		for f in services/* gateway; do echo 0.1.0 >$f/VERSION; echo "## 0.1.0" >$f/CHANGELOG.md; done; git add .; git commit -qm first`)
	must(`echo 0.2.0 >services/crm/VERSION; printf '## 0.2.0\n\n## 0.1.0\n' >services/crm/CHANGELOG.md; echo x >>services/calls/CHANGELOG.md; git add .; git commit -qm crm`)
	require.Equal(t, "services=[\"services/crm\"]\n", must("deploy/release/changed HEAD~1 HEAD"))
	require.Equal(t, "services=[]\n", must("deploy/release/changed HEAD HEAD"))
	require.Equal(t, 5, strings.Count(must("deploy/release/changed 0000000000000000000000000000000000000000 HEAD"), "/")+1, "the first push: all five")
	require.Equal(t, 5, strings.Count(must("deploy/release/changed '' HEAD"), "/")+1, "by hand, without a commit: all five")
	must(`echo 0.3.0 >gateway/VERSION; git commit -qam gateway`)
	out, err := sh("deploy/release/changed HEAD~1 HEAD")
	require.Error(t, err)
	require.Contains(t, out, "gateway/CHANGELOG.md says nothing about 0.3.0")
	must(`echo 0.0.9 >gateway/VERSION; echo "## 0.0.9" >>gateway/CHANGELOG.md; git commit -qam back`)
	out, err = sh("deploy/release/changed HEAD~2 HEAD")
	require.Error(t, err)
	require.Contains(t, out, "0.0.9 is not newer than 0.1.0")
}

func TestEachServiceHasAVersionAndAChangelog(t *testing.T) {
	t.Parallel()
	for _, service := range services {
		folder := filepath.Join(root, "services", service)
		if service == "gateway" {
			folder = filepath.Join(root, service)
		}
		version, err := os.ReadFile(filepath.Join(folder, "VERSION"))
		require.NoError(t, err)
		require.Regexp(t, `^\d+\.\d+\.\d+\n$`, string(version), service)
		changes, err := os.ReadFile(filepath.Join(folder, "CHANGELOG.md"))
		require.NoError(t, err)
		require.Contains(t, string(changes), "\n## "+strings.TrimSpace(string(version))+"\n", service)
	}
}
