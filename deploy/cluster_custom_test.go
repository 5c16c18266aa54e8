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
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// undefined are the custom resources whose definitions no registry has: Strimzi and CloudNativePG publish them outside of Maven and
// the Go modules. The API server gets definitions of them that accept any fields.
var undefined = map[string]bool{
	"Kafka": true, "KafkaNodePool": true, "KafkaTopic": true, "KafkaUser": true, "Cluster": true, "ScheduledBackup": true,
}

const anyFields = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]ss.%[2]s}
spec:
  group: %[2]s
  names: {kind: %[3]s, plural: %[1]ss}
  scope: Namespaced
  versions:
    - name: %[4]s
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// define gives the API server the definitions of the custom resources, those of the operators' modules as far as there are some.
func define(t *testing.T, tools string) {
	dir := t.TempDir()
	for kind, version := range customKinds {
		if undefined[kind] {
			group, version, _ := strings.Cut(version, "/")
			text := fmt.Sprintf(anyFields, strings.ToLower(kind), group, kind, version)
			require.NoError(t, os.WriteFile(filepath.Join(dir, kind+".yaml"), []byte(text), 0o600))
		}
	}
	for _, folder := range []string{dir, filepath.Join(tools, "crds")} {
		_, message, err := tryKubectl(t, "apply", "--server-side", "-f", folder) // some are too large for an annotation
		require.NoError(t, err, message)
	}
	kubectl(t, "wait", "crd", "--all", "--for=condition=Established", waitLimit)
}

// testCustomResources applies every component, as its first lines say, to the installation that is there. A field that its kind does
// not have is refused, except for those of undefined.
func testCustomResources(t *testing.T, e, folder string) {
	used := map[string]*unstructured.Unstructured{}
	for _, with := range []struct{ folder, component string }{
		{"calls", "keda/calls"}, {"crm", "keda/crm"}, {"notify", "keda/notify"}, {"gateway", "ingress"}, {"gateway", "gateway-api"},
		{"auth", "strimzi/client"}, {"gateway", "strimzi/client"}, {"", "strimzi"}, {"", "cloudnativepg"}, {"", "monitoring"},
	} {
		extended := withComponents(t, filepath.Join(folder, with.folder), with.component)
		kubectl(t, "apply", "-k", extended)
		require.Empty(t, kubectl(t, "diff", "-k", extended), with.component)
		maps.Copy(used, renderNow(t, extended).others)
	}
	rolledOut(t)

	kinds := map[string]bool{}
	for _, o := range used {
		kinds[o.GetKind()] = true
		wrong := o.DeepCopy()
		require.NoError(t, unstructured.SetNestedField(wrong.Object, "x", "spec", "noSuchField"))
		wrong.SetName("wrong")
		wrong.SetNamespace("convoflow")
		raw, err := yaml.Marshal(wrong.Object)
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), "wrong.yaml")
		require.NoError(t, os.WriteFile(file, raw, 0o600))
		if create := []string{"create", "--dry-run=server", "-f", file}; undefined[o.GetKind()] {
			kubectl(t, create...)
		} else {
			require.Contains(t, refused(t, create...), `unknown field "spec.noSuchField"`, o.GetKind())
		}
	}
	if e != "dev" { // whose secrets are files
		require.Equal(t, slices.Sorted(maps.Keys(customKinds)), slices.Sorted(maps.Keys(kinds)))
	}
}
