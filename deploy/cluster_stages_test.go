package deploy

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// zones have two nodes each.
var zones = []string{"a", "b", "c"}

func writeNodes(t *testing.T) string {
	var text strings.Builder
	for _, zone := range zones {
		for _, n := range []string{"1", "2"} {
			fmt.Fprintf(&text, `---
apiVersion: v1
kind: Node
metadata:
  name: %[1]s%[2]s
  labels: {topology.kubernetes.io/zone: %[1]s, kubernetes.io/hostname: %[1]s%[2]s}
status:
  allocatable: {cpu: "8", memory: 32Gi, pods: "110"}
  capacity: {cpu: "8", memory: 32Gi, pods: "110"}
`, zone, n)
		}
	}
	file := filepath.Join(t.TempDir(), "nodes.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))
	return file
}

// The commands of the README, in their order. dev is installed one service after the other, which has to give the same.
func testInstall(t *testing.T, e, folder string) {
	kubectl(t, "apply", "-k", filepath.Join(folder, "namespace"))
	differences, message, err := tryKubectl(t, "diff", "-k", folder)
	require.EqualError(t, err, "exit status 1", "%s", message) // there are differences; more is an error
	for _, service := range services {
		require.Contains(t, differences, "+  name: "+service+"\n")
	}
	if e == "dev" {
		for _, service := range services {
			kubectl(t, "apply", "-k", filepath.Join(folder, service))
			kubectl(t, "-n", "convoflow", "rollout", "status", "deployment/"+service, waitLimit)
		}
	} else {
		kubectl(t, "apply", "-k", folder)
	}
	rolledOut(t)
	require.Empty(t, kubectl(t, "diff", "-k", folder), "something else changes what was applied")
}

func testPodSecurity(t *testing.T, _, _ string) {
	privileged := []string{"run", "bad", "--image=registry.example.com/bad:1", "--privileged", "--dry-run=server"}
	kubectl(t, append(privileged, "-n", "default")...) // so that nothing but the namespace refuses it
	require.Contains(t, refused(t, append(privileged, "-n", "convoflow")...), `violates PodSecurity "restricted`)
	require.Contains(t, refused(t, "run", "bad", "--image=registry.example.com/bad:1", "--dry-run=server", "-n", "convoflow"), "runAsNonRoot != true", "without being told to be restricted")
}

func testNetwork(t *testing.T, _, _ string) {
	var policies []*networkingv1.NetworkPolicy
	for _, p := range get[networkingv1.NetworkPolicyList](t, "networkpolicies").Items {
		policies = append(policies, &p)
	}
	requireWantedReach(t, policies, deployments(t), wanted)
}

func testReplicas(t *testing.T, e, folder string) {
	want := render(t, overlay(e)).scalers
	for name := range want {
		kubectl(t, "-n", "convoflow", "wait", "deployment/"+name, fmt.Sprintf("--for=jsonpath={.status.availableReplicas}=%d", *want[name].Spec.MinReplicas), waitLimit)
	}
	for _, scaler := range get[autoscalingv2.HorizontalPodAutoscalerList](t, "hpa").Items {
		able := slices.ContainsFunc(scaler.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
			return c.Type == autoscalingv2.AbleToScale && c.Status == corev1.ConditionTrue
		})
		require.True(t, able, "%s: %+v", scaler.Name, scaler.Status.Conditions)
	}
	for _, name := range services {
		nodes, inZones := placed(t, name)
		require.LessOrEqual(t, slices.Max(slices.Collect(maps.Values(nodes))), 1, "%s: two replicas on a node", name)
		require.LessOrEqual(t, slices.Max(slices.Collect(maps.Values(inZones))), 1, "%s: two replicas in a zone: %v", name, inZones)
	}
	require.Empty(t, kubectl(t, "diff", "-k", folder), "an apply would set back what the autoscalers decided")
}

// placed counts the replicas of a service by node and by zone.
func placed(t *testing.T, service string) (nodes, inZones map[string]int) {
	nodes, inZones = map[string]int{}, map[string]int{}
	for _, p := range get[corev1.PodList](t, "pods", "--selector", "app.kubernetes.io/name="+service).Items {
		for _, v := range p.Spec.Volumes {
			require.Nil(t, v.Projected, "%s has a token for the API server", p.Name)
		}
		if p.Spec.NodeName != "" && p.DeletionTimestamp == nil {
			nodes[p.Spec.NodeName]++
			inZones[p.Spec.NodeName[:1]]++
		}
	}
	return nodes, inZones
}

func testEachAlone(t *testing.T, _, folder string) {
	for _, service := range services {
		before := revisions(t)
		image := func() string { return container(t, deployments(t)[service]).Image }
		file := filepath.Join(folder, service, "kustomization.yaml")
		edit(t, file, "newTag: 0.1.0", "newTag: 0.2.0")
		require.Contains(t, diff(t, filepath.Join(folder, service)), "/"+service+":0.2.0")
		kubectl(t, "apply", "-k", filepath.Join(folder, service))
		kubectl(t, "-n", "convoflow", "rollout", "status", "deployment/"+service, waitLimit)
		require.True(t, strings.HasSuffix(image(), ":0.2.0"))
		_, warning, err := tryKubectl(t, "-n", "convoflow", "rollout", "undo", "deployment/"+service)
		require.NoError(t, err, warning) // it says that the manifest has to be set back too, as the README does
		kubectl(t, "-n", "convoflow", "rollout", "status", "deployment/"+service, waitLimit)
		require.True(t, strings.HasSuffix(image(), ":0.1.0"))
		require.Equal(t, []string{service}, restarted(t, before))
		edit(t, file, "newTag: 0.2.0", "newTag: 0.1.0")
		require.Empty(t, kubectl(t, "diff", "-k", folder), "after the way back all is as it was")
	}
}

// diff returns what an apply would change, of which there has to be something.
func diff(t *testing.T, folder string) string {
	differences, message, err := tryKubectl(t, "diff", "-k", folder)
	require.EqualError(t, err, "exit status 1", "%s", message)
	return differences
}

func testSharedSetting(t *testing.T, _, folder string) {
	before := revisions(t)
	edit(t, filepath.Join(folder, "shared/audio/kustomization.yaml"), `MAX_AUDIO_SIZE_MB: "100"`, `MAX_AUDIO_SIZE_MB: "50"`)
	kubectl(t, "apply", "-k", folder)
	rolledOut(t)
	require.Equal(t, []string{"calls", "gateway"}, restarted(t, before))
}

// A setting that has just changed has left two ConfigMaps behind, and in dev a changed secret a Secret.
func testPrune(t *testing.T, e, folder string) {
	old := 2
	if e == "dev" {
		edit(t, filepath.Join(folder, "crm/secret.env"), "PABBLY_INBOUND_SECRET=CHANGE-ME", "PABBLY_INBOUND_SECRET=CHANGE-ME-TOO")
		kubectl(t, "apply", "-k", folder)
		rolledOut(t)
		old++
	}
	names := func() []string {
		return strings.Fields(kubectl(t, "-n", "convoflow", "get", "deployments,services,serviceaccounts,configmaps,secrets,poddisruptionbudgets,hpa,networkpolicies,externalsecrets",
			"-o", "name", "--selector", "app.kubernetes.io/part-of=convoflow"))
	}
	before, all := revisions(t), names()
	_, command, found := strings.Cut(readme(t), "kubectl apply -k deploy/k8s/overlays/prod --prune")
	require.True(t, found)
	command, _, _ = strings.Cut(command, "```")
	prune := append([]string{"--prune"}, strings.Fields(strings.ReplaceAll(command, "\\\n", ""))...)
	pruned := kubectl(t, append([]string{"apply", "-k", folder}, prune...)...)
	require.Equal(t, old, strings.Count(pruned, "pruned"), pruned)
	require.Len(t, names(), len(all)-old)
	require.Empty(t, restarted(t, before))
	require.Empty(t, kubectl(t, "diff", "-k", folder))
}

func readme(t *testing.T) string {
	raw, err := os.ReadFile("README.md")
	require.NoError(t, err)
	return string(raw)
}

// A node, and then a zone, is emptied while every service goes on: the budgets let one replica go at a time.
func testDrain(t *testing.T, e, _ string) {
	if e == "dev" {
		return // its services have one replica
	}
	drain := func(node, timeout string) []string {
		return []string{"drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=" + timeout}
	}
	gateways, _ := placed(t, "gateway")
	nodes := slices.Sorted(maps.Keys(gateways))

	// Nothing can be placed elsewhere, so the second node must keep its replicas.
	for _, node := range strings.Fields(kubectl(t, "get", "nodes", "-o", "name")) {
		kubectl(t, "cordon", node)
	}
	kubectl(t, drain(nodes[0], "120s")...)
	require.Contains(t, refused(t, drain(nodes[1], "8s")...), "would violate the pod's disruption budget")
	for name, d := range deployments(t) {
		require.GreaterOrEqual(t, d.Status.AvailableReplicas, *d.Spec.Replicas-1, "%s: more than one replica is gone", name)
	}
	for _, node := range strings.Fields(kubectl(t, "get", "nodes", "-o", "name")) {
		kubectl(t, "uncordon", node)
	}
	rolledOut(t)

	// A zone: the others take over.
	for _, n := range []string{"1", "2"} {
		kubectl(t, "cordon", zones[0]+n)
	}
	for _, n := range []string{"1", "2"} {
		kubectl(t, drain(zones[0]+n, "120s")...)
	}
	rolledOut(t)
	for _, name := range services {
		_, inZones := placed(t, name)
		require.Zero(t, inZones[zones[0]], name)
		require.LessOrEqual(t, inZones[zones[1]]-inZones[zones[2]], 1, name)
		require.GreaterOrEqual(t, inZones[zones[1]]-inZones[zones[2]], -1, name)
	}
	for _, n := range []string{"1", "2"} {
		kubectl(t, "uncordon", zones[0]+n)
	}
}
