package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsCommittedIsWhatIsGenerated(t *testing.T) {
	t.Parallel()
	generated, err := files()
	require.NoError(t, err)
	for name, content := range generated {
		committed, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(name)))
		require.NoError(t, err)
		require.Equal(t, string(content), string(committed), "%s: go run ./deploy/observe", name)
	}
	for _, dir := range []string{"prometheus/rules/*.yml", "prometheus/tests/*.yml", "grafana/dashboards/*"} {
		found, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(dir)))
		require.NoError(t, err)
		require.NotEmpty(t, found, dir)
		for _, file := range found {
			name, err := filepath.Rel("..", file)
			require.NoError(t, err)
			require.Contains(t, generated, filepath.ToSlash(name), "nobody generates it any more")
		}
	}
}

// promtool runs promtool on what is committed.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	tool := exec.CommandContext(t.Context(), "promtool", args...)
	tool.Dir = filepath.Join("..", "prometheus")
	out, err := tool.CombinedOutput()
	require.NoError(t, err, "promtool %s: %s", strings.Join(args, " "), out)
	t.Logf("%s", out)
}

func TestPrometheusAcceptsItsSettingsAndRules(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "config", "prometheus.yml")
}

func TestAlertsFireAndStaySilent(t *testing.T) {
	t.Parallel()
	promtool(t, "test", "rules", "tests/slo.yml", "tests/symptoms.yml")
	for _, a := range symptoms() {
		require.NotEmpty(t, a.fires, a.name)
		require.NotEmpty(t, a.silent, a.name)
	}
}

// Each alert has a section of the runbook with the five parts, and no section is about an alert that does not exist.
func TestEachAlertIsInTheRunbook(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "runbook.md"))
	require.NoError(t, err)
	var alerts, sections []string
	for _, r := range slices.Concat(burns().Rules, rulesOf(symptoms())) {
		require.Equal(t, runbook+strings.ToLower(r.Alert), r.Annotations["runbook_url"])
		require.Contains(t, []string{page, ticket}, r.Labels["severity"])
		alerts = append(alerts, r.Alert)
	}
	for _, section := range strings.Split(string(raw), "\n### ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		text, _, _ = strings.Cut(text, "\n## ")
		sections = append(sections, title)
		parts := regexp.MustCompile(`(?m)^\*\*(\w+)\*\* \S`).FindAllStringSubmatch(text, -1)
		var names []string
		for _, part := range parts {
			names = append(names, part[1])
		}
		require.Equal(t, []string{"Meaning", "Impact", "Diagnose", "Mitigate", "Verify"}, names, title)
	}
	slices.Sort(alerts)
	require.Equal(t, slices.Compact(alerts), slices.Sorted(slices.Values(sections)))
}

// A metric in an expression that no service has would make an alert that never fires. The test of a running platform asks for the
// values; this one finds a typing error without it.
func TestEachMetricIsInTheSources(t *testing.T) {
	t.Parallel()
	var sources strings.Builder
	for _, dir := range []string{"libs", "gateway", "services"} {
		require.NoError(t, filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			raw, err := os.ReadFile(path)
			sources.Write(raw)
			return err
		}))
	}
	generated, err := files()
	require.NoError(t, err)
	suffix := regexp.MustCompile(`_(bucket|count|sum)$`)
	for name, content := range generated {
		for _, metric := range regexp.MustCompile(`(^|[^:\w])(convoflow_\w+)`).FindAllStringSubmatch(string(content), -1) {
			require.Contains(t, sources.String(), `"`+suffix.ReplaceAllString(metric[2], "")+`"`, "%s in %s", metric[2], name)
		}
	}
}
