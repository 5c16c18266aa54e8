package deploy

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
)

// TestOnARealAPIServer applies the manifests to Kubernetes as an operator does who follows README.md. `make test-k8s` starts a control
// plane for it, whose nodes are simulated: pods are scheduled, and are ready at once.
func TestOnARealAPIServer(t *testing.T) {
	tools := os.Getenv("TEST_KUBERNETES")
	if tools == "" {
		t.Skip("it needs a control plane: make test-k8s")
	}
	kubectl(t, "apply", "-f", writeNodes(t))
	kubectl(t, "wait", "node", "--all", "--for=condition=Ready", waitLimit)
	define(t, tools)
	for _, e := range environments {
		t.Run(e, func(t *testing.T) {
			// As in the README, the operator edits the files. The stages go on where the one before ended.
			tree := filepath.Join(t.TempDir(), "k8s")
			require.NoError(t, os.CopyFS(tree, os.DirFS("k8s")))
			folder := filepath.Join(tree, "overlays", e)
			for _, stage := range []struct {
				name string
				run  func(t *testing.T, e, folder string)
			}{
				{"is installed", testInstall},
				{"refuses other pods than restricted ones", testPodSecurity},
				{"its network is what is wanted", testNetwork},
				{"its replicas are those of the autoscalers, and spread", testReplicas},
				{"each service is upgraded and rolled back alone", testEachAlone},
				{"a shared setting restarts who reads it", testSharedSetting},
				{"is pruned", testPrune},
				{"its nodes are drained", testDrain},
				{"has custom resources as their operators define them", testCustomResources},
			} {
				if !t.Run(stage.name, func(t *testing.T) { stage.run(t, e, folder) }) {
					t.Log(kubectl(t, "-n", "convoflow", "get", "deployments,pods,events", "-o", "wide"))
					break
				}
			}
			kubectl(t, "delete", "namespace", "convoflow", waitLimit)
		})
	}
}

// waitLimit is for a slow machine: what is waited for takes a second or two.
const waitLimit = "--timeout=120s"

// kubectl runs kubectl and returns what it prints. A warning of the API server is a failure: about the security of pods, a field that
// it does not know, an API that ends.
func kubectl(t *testing.T, args ...string) string {
	out, warnings, err := tryKubectl(t, args...)
	require.NoError(t, err, "kubectl %s\n%s%s", strings.Join(args, " "), out, warnings)
	require.NotContains(t, warnings, "Warning:", "kubectl %s", strings.Join(args, " "))
	return out
}

// refused runs kubectl, which has to fail, and returns why.
func refused(t *testing.T, args ...string) string {
	out, message, err := tryKubectl(t, args...)
	require.Error(t, err, "kubectl %s\n%s", strings.Join(args, " "), out)
	return message
}

func tryKubectl(t *testing.T, args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(untilDeadline(t), "kubectl", args...)
	var out, messages strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &messages
	err = cmd.Run()
	return out.String(), messages.String(), err
}

// get reads objects of the namespace as JSON.
func get[T any](t *testing.T, kinds ...string) (list T) {
	require.NoError(t, json.Unmarshal([]byte(kubectl(t, append([]string{"-n", "convoflow", "get", "-o", "json"}, kinds...)...)), &list))
	return list
}

func deployments(t *testing.T) map[string]*appsv1.Deployment {
	byName := map[string]*appsv1.Deployment{}
	for _, d := range get[appsv1.DeploymentList](t, "deployments").Items {
		byName[d.Name] = &d
	}
	return byName
}

// revisions are the versions of the deployments' pods: one that changes restarts them. (The generation changes with an annotation, too.)
func revisions(t *testing.T) map[string]string {
	byName := map[string]string{}
	for name, d := range deployments(t) {
		byName[name] = d.Annotations["deployment.kubernetes.io/revision"]
	}
	return byName
}

// restarted are the deployments whose revision is another one than before.
func restarted(t *testing.T, before map[string]string) (names []string) {
	for name, revision := range revisions(t) {
		if revision != before[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// rolledOut waits until every deployment has all its replicas, in the newest version.
func rolledOut(t *testing.T) {
	kubectl(t, "-n", "convoflow", "rollout", "status", "deployment", "--selector", "app.kubernetes.io/part-of=convoflow", waitLimit)
}

// edit changes a file of the operator's.
func edit(t *testing.T, file, old, replacement string) {
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(raw), old, file)
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(raw), old, replacement)), 0o600))
}
