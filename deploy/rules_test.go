package deploy

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write k8s/components/monitoring/rules.yaml from prometheus/rules")

// TestThePrometheusRuleHasTheRulesOfPrometheus holds the custom resource against the files that Prometheus itself reads.
func TestThePrometheusRuleHasTheRulesOfPrometheus(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("prometheus/rules/*.yml")
	require.NoError(t, err)
	groups := []any{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var content struct{ Groups []any }
		require.NoError(t, yaml.Unmarshal(raw, &content))
		groups = append(groups, content.Groups...)
	}
	rule, err := yaml.Marshal(map[string]any{
		"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
		"metadata": map[string]any{"name": "convoflow", "namespace": "convoflow"}, "spec": map[string]any{"groups": groups},
	})
	require.NoError(t, err)
	const target = "k8s/components/monitoring/rules.yaml"
	if *update {
		require.NoError(t, os.WriteFile(target, append([]byte("# Made from deploy/prometheus/rules: go test ./deploy -run PrometheusRule -update\n"), rule...), 0o644))
	}
	written, err := os.ReadFile(target)
	require.NoError(t, err)
	require.YAMLEq(t, string(rule), string(written), "go test ./deploy -run PrometheusRule -update")
}
