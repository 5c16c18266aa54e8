package deploy

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/stretchr/testify/require"
)

// dockerfile returns the stages of a Dockerfile by name.
func dockerfile(t *testing.T, file string) map[string]instructions.Stage {
	text, err := os.Open(filepath.Join(root, file))
	require.NoError(t, err)
	defer func() { _ = text.Close() }()
	tree, err := parser.Parse(text)
	require.NoError(t, err)
	list, _, err := instructions.Parse(tree.AST, nil)
	require.NoError(t, err)
	stages := map[string]instructions.Stage{}
	for _, s := range list {
		stages[s.Name] = s
	}
	return stages
}

func TestImagesRunUnprivilegedFromPinnedBases(t *testing.T) {
	t.Parallel()
	stages := dockerfile(t, "deploy/docker/Dockerfile")
	for name, stage := range dockerfile(t, "deploy/docker/offline.Dockerfile") {
		if name != "build" {
			stages["offline "+name] = stage
		}
	}
	for name, stage := range stages {
		require.Regexp(t, pinned, stage.BaseName)
		if name == "build" {
			continue
		}
		var user string
		var healthcheck, entrypoint []string
		for _, command := range stage.Commands {
			switch c := command.(type) {
			case *instructions.UserCommand:
				user = c.User
			case *instructions.HealthCheckCommand:
				healthcheck = c.Health.Test
			case *instructions.EntrypointCommand:
				entrypoint = c.CmdLine
				require.False(t, c.PrependShell, "the image has no shell")
			}
		}
		require.Equal(t, "65532:65532", user, name)
		require.Equal(t, []string{"CMD", "/app", "health"}, healthcheck, name)
		require.Equal(t, []string{"/app"}, entrypoint, name)
	}
}

// replay runs a stage on this machine, with a directory as the root of the file system: it copies the files of COPY from the build
// context and runs the commands of RUN. It fails for instructions that the stage does not use today. A build uses two cores at
// most, because other tests run at the same time.
func replay(t *testing.T, stage instructions.Stage, args map[string]string) (rootfs string) {
	rootfs = t.TempDir()
	variables := map[string]string{}
	workdir := "/"
	expand := func(text string) string { return os.Expand(text, func(name string) string { return variables[name] }) }
	for _, command := range stage.Commands {
		switch c := command.(type) {
		case *instructions.ArgCommand:
			for _, a := range c.Args {
				if value, given := args[a.Key]; given {
					variables[a.Key] = value
				} else if a.Value != nil {
					variables[a.Key] = *a.Value
				}
			}
		case *instructions.EnvCommand:
			for _, e := range c.Env {
				variables[e.Key] = expand(e.Value)
			}
		case *instructions.WorkdirCommand:
			workdir = c.Path
		case *instructions.CopyCommand:
			require.Empty(t, c.From)
			for _, source := range c.SourcePaths {
				copyFromContext(t, expand(source), filepath.Join(rootfs, workdir), expand(c.DestPath))
			}
		case *instructions.RunCommand:
			require.True(t, c.PrependShell)
			run := exec.CommandContext(untilDeadline(t), "sh", "-c", strings.Join(c.CmdLine, " "))
			run.Dir = filepath.Join(rootfs, workdir)
			run.Env = append(os.Environ(), "GOFLAGS=-p=2", "PWD="+run.Dir)
			run.WaitDelay = time.Second // children of a killed shell have its output open
			for name, value := range variables {
				run.Env = append(run.Env, name+"="+value)
			}
			out, err := run.CombinedOutput()
			require.NoError(t, err, "%s\n%s", strings.Join(c.CmdLine, " "), out)
		default:
			t.Fatalf("replay does not support %s", c.Name())
		}
	}
	return rootfs
}

// untilDeadline returns a context that ends before Go's -timeout, so that a build that takes too long fails with its output.
func untilDeadline(t *testing.T) context.Context {
	deadline, limited := t.Deadline()
	if !limited {
		return t.Context()
	}
	ctx, cancel := context.WithDeadline(t.Context(), deadline.Add(-time.Minute))
	t.Cleanup(cancel)
	return ctx
}

// copyFromContext copies the content of a directory, or the files that match a pattern, as COPY does.
func copyFromContext(t *testing.T, source, workdir, dest string) {
	copied := 0
	for _, file := range contextFiles(t) {
		target := ""
		if inside, ok := strings.CutPrefix(file, path.Clean(source)+"/"); ok {
			target = path.Join(dest, inside)
		} else if matches, err := path.Match(path.Clean(source), file); err == nil && matches {
			require.True(t, strings.HasSuffix(dest, "/"), "%s may be several files", source)
			target = path.Join(dest, path.Base(file))
		}
		if target == "" {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		target = filepath.Join(workdir, target)
		require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o755))
		require.NoError(t, os.WriteFile(target, content, 0o644))
		copied++
	}
	require.Positive(t, copied, "COPY %s matches no file", source)
}

// contextFiles returns the files of the repository that .dockerignore does not exclude.
func contextFiles(t *testing.T) (files []string) {
	raw, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	require.NoError(t, err)
	patterns, err := ignorefile.ReadAll(bytes.NewReader(raw))
	require.NoError(t, err)
	ignored, err := patternmatcher.New(patterns)
	require.NoError(t, err)
	require.NoError(t, filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		skip, err := ignored.MatchesOrParentMatches(rel)
		switch {
		case err != nil:
			return err
		case skip && entry.IsDir() && !strings.Contains(rel, "/"):
			return fs.SkipDir // no pattern includes files below it
		case !skip && entry.Type().IsRegular():
			files = append(files, filepath.ToSlash(rel))
		}
		return nil
	}))
	return files
}

func TestTheBuildContextHasNoSecretsAndNoData(t *testing.T) {
	t.Parallel()
	for _, file := range contextFiles(t) {
		top, _, _ := strings.Cut(file, "/")
		require.True(t, slices.Contains([]string{"api", "console", "libs", "gateway", "services", "platform"}, top), file)
		require.NotContains(t, file, ".env")
	}
}
