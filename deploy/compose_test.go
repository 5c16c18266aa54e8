package deploy

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

const root = ".." // of the repository

// pinned matches an image with a tag and a digest.
var pinned = regexp.MustCompile(`:v?[a-z0-9.-]+@sha256:[0-9a-f]{64}$`)

// secretName matches settings that must come from files.
var secretName = regexp.MustCompile(`(KEY|KEY_PREVIOUS|SECRET|PASSWORD|TOKEN|DATABASE_URL|WEBHOOK_URL)$`)

// composeProject loads the file as docker compose does, against the specification's schema, with nothing set in the shell and
// all profiles.
func composeProject(t *testing.T) *types.Project {
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithConsistency(true), cli.WithProfiles([]string{"*"}))
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	return project
}

func TestComposeServicesAreHardenedAndWatched(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	require.Len(t, project.Services, 13)
	for name, s := range project.Services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "collector" && name != "traces" { // their images have no program that could ask
				require.NotNil(t, s.HealthCheck)
				require.NotEmpty(t, s.HealthCheck.Test)
			}
			require.Positive(t, s.CPUS)
			require.Equal(t, "unless-stopped", s.Restart)
			require.True(t, s.ReadOnly)
			require.Equal(t, []string{"ALL"}, s.CapDrop)
			require.Empty(t, s.CapAdd)
			require.False(t, s.Privileged)
			require.Contains(t, s.SecurityOpt, "no-new-privileges:true")
			require.Positive(t, s.MemLimit)
			require.NotNil(t, s.StopGracePeriod)
			if s.Build != nil || name == "collector" || name == "traces" { // made here, or no digest is known
				_, tag, tagged := strings.Cut(s.Image, ":")
				require.True(t, tagged && tag != "latest", "the image is not pinned: %s", s.Image)
			} else {
				require.Regexp(t, pinned, s.Image)
			}
		})
	}
}

func TestComposePublishesOnlyTheGateway(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	for name, s := range project.Services {
		require.NotEqual(t, "host", s.NetworkMode, name)
		if published := map[string]uint32{"grafana": 3000, "traces": 16686}[name]; published != 0 {
			require.Len(t, s.Ports, 1)
			require.Equal(t, "127.0.0.1", s.Ports[0].HostIP, name)
			require.Equal(t, published, s.Ports[0].Target, name)
			require.Equal(t, []string{"observability"}, s.Profiles, name)
			continue
		}
		if name == "gateway" {
			require.Equal(t, []types.ServicePortConfig{{Mode: "ingress", HostIP: "127.0.0.1", Target: 8000, Published: "8000", Protocol: "tcp"}}, s.Ports)
			continue
		}
		require.Empty(t, s.Ports, name)
	}
	require.True(t, project.Networks["inside"].Internal)
	for _, name := range []string{"postgres", "kafka", "auth", "crm", "storage", "offline-ai", "prometheus", "collector"} {
		require.Equal(t, []string{"inside"}, slices.Collect(maps.Keys(project.Services[name].Networks)), "%s needs no way out", name)
	}
}

func TestComposeSecretsComeFromFiles(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	made := makeSecrets(t)
	for name, s := range project.Services {
		given := map[string]bool{}
		for _, secret := range s.Secrets {
			given["/run/secrets/"+secret.Source] = true
		}
		for key, value := range s.Environment {
			require.False(t, secretName.MatchString(key), "%s: %s is not in a file", name, key)
			if file, isFile := strings.CutSuffix(key, "_FILE"); isFile {
				require.True(t, given[*value], "%s: %s names a file that is no secret of it", name, file)
			}
		}
	}
	for name, secret := range project.Secrets {
		require.FileExists(t, secret.File+".example", "an example shows the form of %s", name)
		require.FileExists(t, filepath.Join(made, name), "make-secrets makes %s", name)
	}
	entries, err := os.ReadDir(made)
	require.NoError(t, err)
	require.Len(t, entries, len(project.Secrets), "make-secrets makes nothing else")
}

func TestComposeStartsInOrder(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	for _, name := range []string{"auth", "calls", "crm", "notify"} {
		require.Equal(t, types.ServiceConditionHealthy, project.Services[name].DependsOn["postgres"].Condition, name)
	}
	for name, s := range project.Services {
		for other, d := range s.DependsOn {
			if d.Condition == types.ServiceConditionHealthy {
				require.NotNil(t, project.Services[other].HealthCheck, "%s waits for %s", name, other)
			}
		}
	}
}

// Without a key, the first command of the header chooses the offline AI; nothing else has to be set.
func TestComposeStartsWithoutAKey(t *testing.T) {
	t.Parallel()
	settings := filepath.Join(t.TempDir(), ".env")
	make := func(environ ...string) {
		cmd := exec.CommandContext(t.Context(), "docker/make-secrets", t.TempDir(), settings)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environ...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	make("OPENAI_API_KEY=sk-test")
	require.NoFileExists(t, settings)
	make()
	load := func() *types.Project {
		options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithEnvFiles(settings), cli.WithDotEnv, cli.WithDefaultProfiles(), cli.WithConsistency(true))
		require.NoError(t, err)
		project, err := options.LoadProject(t.Context())
		require.NoError(t, err)
		return project
	}
	project := load()
	require.Contains(t, project.Services, "offline-ai")
	require.NotContains(t, project.Services, "grafana")
	calls := project.Services["calls"].Environment
	require.Equal(t, "http://offline-ai:8080/v1", *calls["OPENAI_BASE_URL"])
	require.Equal(t, "offline-pocketsphinx", *calls["TRANSCRIBE_MODEL"])
	require.Equal(t, types.ServiceConditionHealthy, project.Services["calls"].DependsOn["offline-ai"].Condition)
	require.NoError(t, os.WriteFile(settings, []byte("LOG_LEVEL=DEBUG\n"), 0o600))
	make()
	raw, err := os.ReadFile(settings)
	require.NoError(t, err)
	require.Equal(t, "LOG_LEVEL=DEBUG\n", string(raw), "what is there stays")
	require.NotContains(t, load().Services, "offline-ai")
}

func TestComposeMountsRecordingsInTheirStorageOnly(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	for name, s := range project.Services {
		for _, v := range s.Volumes {
			if v.Source == "recordings" {
				require.Equal(t, "storage", name)
			}
			if v.Type == types.VolumeTypeBind && (strings.Contains(v.Source, "prometheus") || strings.Contains(v.Source, "grafana")) {
				continue // of the telemetry
			}
			if v.Type == types.VolumeTypeBind {
				require.FileExists(t, v.Source, name)
			}
		}
	}
	require.Contains(t, *project.Services["calls"].Environment["STORAGE_URL"], "endpoint=http://storage:7070")
}
