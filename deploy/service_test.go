package deploy

import (
	"bufio"
	"context"
	"debug/elf"
	"errors"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/libs/pg/pgserver"
)

// TestServicesFromTheirImages builds each service with the steps of its image and checks with the binary that it knows every
// setting of Compose and Kubernetes, that it accepts all of them together, and that its database role in Compose is sufficient
// to migrate. It builds one image at a time.
func TestServicesFromTheirImages(t *testing.T) {
	t.Parallel()
	project := composeProject(t)
	kubernetes := render(t, overlay("dev"))
	production := render(t, overlay("prod"))
	secrets := makeSecrets(t, "OPENAI_API_KEY=sk-test", "PABBLY_WEBHOOK_URL=https://connect.pabbly.com/workflow/sendwebhookdata/test")
	urls := initDatabase(t, secrets)
	example := exampleSettings(t)

	for _, name := range services {
		service := project.Services[name]
		build := dockerfile(t, service.Build.Dockerfile)
		require.Contains(t, build, service.Build.Target)
		args := map[string]string{"VERSION": "1.2.3", "TARGETARCH": runtime.GOARCH}
		if service.Build.Args["SERVICE"] != nil {
			args["SERVICE"] = *service.Build.Args["SERVICE"]
		}
		app := filepath.Join(replay(t, build["build"], args), "src/app")

		t.Run(name, func(t *testing.T) {
			requireStatic(t, app)
			version, err := exec.CommandContext(t.Context(), app, "version").Output()
			require.NoError(t, err)
			require.Equal(t, name+" 1.2.3\n", string(version))

			known := settingsOf(t, app)
			compose := composeEnvironment(service, secrets)
			kube := kubernetesEnvironment(t, kubernetes, name)
			require.Equal(t, slices.Sorted(maps.Keys(environment(t, kubernetes, kubernetes.deployments[name]))),
				slices.Sorted(maps.Keys(environment(t, production, production.deployments[name]))), "the environments differ in values only")
			for _, environ := range []map[string]string{compose, kube} {
				for setting := range environ {
					if setting = strings.TrimSuffix(setting, "_FILE"); slices.Contains(sdkSettings, setting) {
						continue
					}
					require.Contains(t, example, setting, ".env.example does not have it")
					require.Contains(t, known, setting, "%s does not know it", name)
				}
				requireAccepted(t, app, environ)
			}
			if name == "gateway" {
				return
			}
			delete(compose, "DATABASE_URL_FILE")
			compose["DATABASE_URL"] = urls[name]
			out, err := command(t, app, compose, "migrate").CombinedOutput()
			require.NoError(t, err, "%s", out)
			requireOnlyItsSchema(t, urls[name], name)
		})
	}
}

// The offline AI of Compose is built with the steps of its image, and answers like the others.
func TestTheOfflineAIFromItsImage(t *testing.T) {
	t.Parallel()
	service := composeProject(t).Services["offline-ai"]
	app := filepath.Join(replay(t, dockerfile(t, service.Build.Dockerfile)["build"], map[string]string{"VERSION": "1.2.3", "TARGETARCH": runtime.GOARCH}), "src/app")
	requireStatic(t, app)
	version, err := exec.CommandContext(t.Context(), app, "version").Output()
	require.NoError(t, err)
	require.Equal(t, "offline-ai 1.2.3\n", string(version))
	known := settingsOf(t, app)
	for name := range service.Environment {
		require.Contains(t, known, name)
	}
	requireAccepted(t, app, nil)
}

// requireStatic requires a binary that runs in an empty image.
func requireStatic(t *testing.T, app string) {
	binary, err := elf.Open(app)
	require.NoError(t, err)
	defer func() { _ = binary.Close() }()
	for _, segment := range binary.Progs {
		require.NotEqual(t, elf.PT_INTERP, segment.Type, "it needs a dynamic linker")
	}
	info, err := os.Stat(app)
	require.NoError(t, err)
	t.Logf("%s: %.1f MB", t.Name(), float64(info.Size())/1e6)
	require.LessOrEqual(t, info.Size(), int64(40_000_000), "a binary of more than 40 MB")
}

var settingLine = regexp.MustCompile(`(?m)^  ([A-Z][A-Z0-9_]+) `)

// sdkSettings are read by the SDKs of OpenTelemetry and of S3 (AWS_SHARED_CREDENTIALS_FILE).
var sdkSettings = []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "AWS_SHARED_CREDENTIALS"}

// settingsOf returns the settings that a binary lists.
func settingsOf(t *testing.T, app string) []string {
	help, err := exec.CommandContext(t.Context(), app, "--help").Output()
	require.NoError(t, err)
	return names(settingLine, help)
}

func exampleSettings(t *testing.T) []string {
	raw, err := os.ReadFile(filepath.Join(root, ".env.example"))
	require.NoError(t, err)
	return names(regexp.MustCompile(`(?m)^([A-Z][A-Z0-9_]+)=`), raw)
}

func names(pattern *regexp.Regexp, text []byte) (found []string) {
	for _, match := range pattern.FindAllSubmatch(text, -1) {
		found = append(found, string(match[1]))
	}
	return found
}

// composeEnvironment returns the environment of a service in Compose, with the secrets in a directory of this machine.
func composeEnvironment(service types.ServiceConfig, secrets string) map[string]string {
	environ := map[string]string{}
	for name, value := range service.Environment {
		if value != nil {
			environ[name] = strings.Replace(*value, "/run/secrets", secrets, 1)
		}
	}
	return environ
}

// kubernetesEnvironment returns the environment of a service in Kubernetes, with the secrets in a directory of this machine.
func kubernetesEnvironment(t *testing.T, m manifests, service string) map[string]string {
	d := m.deployments[service]
	environ := environment(t, m, d)
	for _, volume := range d.Spec.Template.Spec.Volumes {
		if volume.Secret == nil {
			continue
		}
		dir := t.TempDir()
		for key, value := range m.secrets[volume.Secret.SecretName].Data {
			if strings.HasSuffix(key, "SECRET") || key == "SECRET_KEY" { // services refuse those of the example
				value = []byte(conf.NewSecret())
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, key), value, 0o600))
		}
		mount := mountPath(t, container(t, d), volume.Name)
		for name, value := range environ {
			environ[name] = strings.Replace(value, mount+"/", dir+"/", 1)
		}
	}
	return environ
}

func mountPath(t *testing.T, c corev1.Container, volume string) string {
	i := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume })
	require.NotEqual(t, -1, i, "%s is not mounted", volume)
	return c.VolumeMounts[i].MountPath
}

func command(t *testing.T, app string, environ map[string]string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), app, args...)
	cmd.Env = []string{}
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		cmd.Env = append(cmd.Env, name+"="+environ[name])
	}
	return cmd
}

// requireAccepted requires that the service starts with the settings. It is killed when it logs that it is starting.
func requireAccepted(t *testing.T, app string, environ map[string]string) {
	all := map[string]string{"HTTP_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0"}
	maps.Copy(all, environ)
	cmd := command(t, app, all)
	stdout, err := cmd.StdoutPipe() // the log
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var logged []string
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		logged = append(logged, lines.Text())
		if strings.Contains(lines.Text(), `"msg":"starting"`) {
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait() // it was killed
			return
		}
	}
	_ = cmd.Wait() // the log has the reason
	t.Fatal(strings.Join(logged, "\n"))
}

// initDatabase starts a PostgreSQL server and runs docker/postgres-init.sh as its image does at the first start. It returns the
// database URL of each service.
func initDatabase(t *testing.T, secrets string) map[string]string {
	server, err := pgserver.Start(t.Context(), pgserver.Options{Dir: filepath.Join(t.TempDir(), "postgres"), Log: slog.New(slog.DiscardHandler), Fast: true})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		require.NoError(t, server.Stop(ctx))
	})
	admin, err := url.Parse(server.URL("postgres"))
	require.NoError(t, err)
	password, _ := admin.User.Password()
	conn, err := pgx.Connect(t.Context(), admin.String())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "create database convoflow")
	require.NoError(t, errors.Join(err, conn.Close(t.Context())))

	script := exec.CommandContext(t.Context(), "docker/postgres-init.sh")
	script.Env = []string{"PATH=" + os.Getenv("PATH"), "SECRETS_DIR=" + secrets, "POSTGRES_USER=" + admin.User.Username(), "POSTGRES_DB=convoflow",
		"PGHOST=" + admin.Hostname(), "PGPORT=" + admin.Port(), "PGPASSWORD=" + password}
	out, err := script.CombinedOutput()
	require.NoError(t, err, "%s", out)

	urls := map[string]string{}
	for _, service := range []string{"auth", "calls", "crm", "notify"} {
		u, err := url.Parse(strings.TrimSpace(readSecret(t, secrets, service+"_database_url")))
		require.NoError(t, err)
		require.Equal(t, "postgres:5432", u.Host)
		u.Host = admin.Host
		urls[service] = u.String()
	}
	return urls
}

// requireOnlyItsSchema requires that the role of a service can access its own schema, which has tables, and no other.
func requireOnlyItsSchema(t *testing.T, databaseURL, service string) {
	conn, err := pgx.Connect(t.Context(), databaseURL)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	rows, err := conn.Query(t.Context(), `select nspname from pg_namespace where nspname in ('public', 'auth', 'calls', 'crm', 'notify')
		and (has_schema_privilege(oid, 'usage') or has_schema_privilege(oid, 'create'))`)
	require.NoError(t, err)
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{service}, schemas)
	var tables int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from pg_tables where schemaname = $1", service).Scan(&tables))
	require.Positive(t, tables)
}
