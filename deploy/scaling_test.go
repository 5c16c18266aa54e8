package deploy

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// partitions is the default of KAFKA_PARTITIONS: a replica above that has no partition to read.
const partitions = 12

func TestKubernetesAutoscalersAreSane(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, e string, m manifests) {
		for name, d := range m.deployments {
			h := m.scalers[name]
			require.NotNil(t, h, name)
			require.Equal(t, d.Name, h.Spec.ScaleTargetRef.Name)
			require.Equal(t, "Deployment", h.Spec.ScaleTargetRef.Kind)
			if name != "gateway" {
				require.LessOrEqual(t, h.Spec.MaxReplicas, int32(partitions), name)
			}
			if e != "dev" {
				require.GreaterOrEqual(t, *h.Spec.MinReplicas, int32(2), name)
			}
			require.Positive(t, h.Spec.MaxReplicas-*h.Spec.MinReplicas, name)
			require.EqualValues(t, 300, *h.Spec.Behavior.ScaleDown.StabilizationWindowSeconds, name)
			require.Zero(t, *h.Spec.Behavior.ScaleUp.StabilizationWindowSeconds, name)
			require.Contains(t, container(t, d).Resources.Requests, corev1.ResourceCPU, "%s: utilization is a share of the request", name)
			require.EqualValues(t, 1, m.budgets[name].Spec.MaxUnavailable.IntVal, name)
		}
	})
}

// The garbage collector's limit follows the container's (run.ManageMemory), so nothing else may set it; without a limit it has none.
func TestKubernetesMemoryLimitsAreTheCollectors(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, _ string, m manifests) {
		for name, d := range m.deployments {
			require.NotContains(t, environment(t, m, d), "GOMEMLIMIT", name)
			c := container(t, d)
			require.Empty(t, c.Env, "%s: settings are in its ConfigMap", name)
			require.Contains(t, c.Resources.Limits, corev1.ResourceMemory, name)
			require.NotContains(t, c.Resources.Limits, corev1.ResourceCPU, "%s: a CPU limit throttles", name)
		}
	})
}

func TestKubernetesReplicasAreSpread(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, e string, m manifests) {
		for name, d := range m.deployments {
			want := corev1.ScheduleAnyway
			if name == "gateway" && e != "dev" {
				want = corev1.DoNotSchedule
			}
			var keys []string
			for _, s := range d.Spec.Template.Spec.TopologySpreadConstraints {
				require.Equal(t, want, s.WhenUnsatisfiable, name)
				if name == "gateway" {
					honor := corev1.NodeInclusionPolicyHonor
					require.Equal(t, &honor, s.NodeTaintsPolicy, "while a zone is drained or lost, its replicas would have no place")
				}
				require.Equal(t, []string{"pod-template-hash"}, s.MatchLabelKeys, "%s: the old version must not count", name)
				keys = append(keys, s.TopologyKey)
			}
			require.Equal(t, []string{"topology.kubernetes.io/zone", "kubernetes.io/hostname"}, keys, name)
		}
	})
}

// Nothing that is secret is in the manifests: staging and prod refer to a store, and dev has placeholders that services refuse.
func TestKubernetesSecretsAreReferences(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, e string, m manifests) {
		for name, c := range m.settings {
			for key, value := range c.Data {
				require.False(t, secretName.MatchString(key), "%s: %s belongs in a Secret", name, key)
				require.NotRegexp(t, `://[^/@]+:[^/@]+@`, value, "%s: %s has a password", name, key)
			}
		}
		if e != "dev" {
			require.Empty(t, m.secrets)
		}
		for name, s := range m.secrets {
			for key, value := range s.Data {
				require.Contains(t, string(value), "CHANGE-ME", "%s: %s", name, key)
			}
		}
		for name, d := range m.deployments {
			var keys []string
			for _, v := range d.Spec.Template.Spec.Volumes {
				if v.Secret != nil {
					keys = secretKeys(m, v.Secret.SecretName)
				}
			}
			for setting, file := range environment(t, m, d) {
				if key, ok := strings.CutPrefix(file, "/run/secrets/"+name+"/"); ok {
					require.Contains(t, keys, key, "%s: %s", name, setting)
				}
			}
		}
	})
}

// renderWith renders a folder with components.
func renderWith(t *testing.T, folder string, components ...string) manifests {
	return render(t, withComponents(t, folder, components...))
}

// withComponents makes a folder that adds components to another one, as an overlay of an operator does.
func withComponents(t *testing.T, folder string, components ...string) string {
	dir := t.TempDir()
	relative := func(path string) string {
		absolute, err := filepath.Abs(path)
		require.NoError(t, err)
		resolved, err := filepath.EvalSymlinks(dir)
		require.NoError(t, err)
		found, err := filepath.Rel(resolved, absolute)
		require.NoError(t, err)
		return found
	}
	k := map[string]any{"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": []string{relative(folder)}}
	var list []string
	for _, c := range components {
		list = append(list, relative(filepath.Join("k8s/components", c)))
	}
	k["components"] = list
	raw, err := yaml.Marshal(k)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), raw, 0o600))
	return dir
}

func TestKubernetesComponents(t *testing.T) {
	t.Parallel()
	t.Run("keda", func(t *testing.T) {
		t.Parallel()
		for _, service := range []string{"calls", "crm", "notify"} {
			m := renderWith(t, filepath.Join(overlay("prod"), service), "keda/"+service)
			require.Empty(t, m.scalers, "two autoscalers would fight")
			scaler := m.others["ScaledObject/"+service]
			most, _, err := unstructured.NestedInt64(scaler.Object, "spec", "maxReplicaCount")
			require.NoError(t, err)
			require.LessOrEqual(t, most, int64(partitions))
			triggers, _, err := unstructured.NestedSlice(scaler.Object, "spec", "triggers")
			require.NoError(t, err)
			var topics []string
			for _, trigger := range triggers {
				metadata, _, _ := unstructured.NestedStringMap(trigger.(map[string]any), "metadata")
				if metadata["topic"] != "" {
					require.Equal(t, service, metadata["consumerGroup"])
					topics = append(topics, metadata["topic"])
				}
			}
			require.Equal(t, topicsOf(t, service), slices.Sorted(slices.Values(topics)))
		}
	})
	t.Run("ways in", func(t *testing.T) {
		t.Parallel()
		ingress := renderWith(t, filepath.Join(overlay("prod"), "gateway"), "ingress").ingresses["gateway"]
		require.Equal(t, "gateway", ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Name)
		require.NotEmpty(t, ingress.Spec.TLS)
		require.NotNil(t, renderWith(t, filepath.Join(overlay("prod"), "gateway"), "gateway-api").others["HTTPRoute/gateway"])
	})
	t.Run("strimzi", func(t *testing.T) {
		t.Parallel()
		m := renderWith(t, overlay("prod"), "strimzi")
		for _, service := range services {
			user := m.others["KafkaUser/kafka-"+service]
			require.NotNil(t, user, service)
			acls, _, err := unstructured.NestedSlice(user.Object, "spec", "authorization", "acls")
			require.NoError(t, err)
			for _, acl := range acls {
				kind, _, _ := unstructured.NestedString(acl.(map[string]any), "resource", "type")
				name, _, _ := unstructured.NestedString(acl.(map[string]any), "resource", "name")
				if kind == "topic" {
					require.NotNil(t, m.others["KafkaTopic/"+name], "%s: there is no topic %s", service, name)
				}
			}
			if service == "gateway" {
				continue
			}
			for _, topic := range topicsOf(t, service) {
				require.NotNil(t, m.others["KafkaTopic/"+topic], topic)
				require.True(t, slices.ContainsFunc(acls, func(acl any) bool {
					name, _, _ := unstructured.NestedString(acl.(map[string]any), "resource", "name")
					operations, _, _ := unstructured.NestedStringSlice(acl.(map[string]any), "operations")
					return name == topic && slices.Contains(operations, "Read")
				}), "%s may not read %s", service, topic)
				require.NotNil(t, m.others["KafkaTopic/"+topic+"."+service+".dlq"], "dead letters of %s in %s", service, topic)
				requireMay(t, user, "topic", topic+"."+service+".dlq", "Write", "Read") // doctor and dlq read them
			}
			requireMay(t, user, "group", "requeued", "Read", "Describe")
			requireMay(t, user, "topic", service+".requeue", "Read", "Write")
			require.NotNil(t, m.others["KafkaTopic/"+service+".requeue"])
		}
		for name, o := range m.others {
			if o.GetKind() == "KafkaTopic" {
				n, _, _ := unstructured.NestedInt64(o.Object, "spec", "partitions")
				require.True(t, n == partitions || n == 1 && (strings.HasSuffix(name, ".dlq") || strings.HasSuffix(name, ".requeue")), name)
			}
		}
	})
	t.Run("strimzi/client", func(t *testing.T) {
		t.Parallel()
		users, known := renderWith(t, overlay("prod"), "strimzi").others, exampleSettings(t)
		for _, service := range services {
			m := renderWith(t, filepath.Join(overlay("prod"), service), "strimzi/client")
			d := m.deployments[service]
			env := environment(t, m, d)
			require.NotNil(t, users["KafkaUser/"+env["KAFKA_SASL_USER"]], service)
			require.Equal(t, "kafka-"+service, env["KAFKA_SASL_USER"])
			require.Equal(t, "false", env["KAFKA_CREATE_TOPICS"], "its users may not")
			files := map[string]string{}
			volumes := d.Spec.Template.Spec.Volumes
			for _, source := range volumes[slices.IndexFunc(volumes, func(v corev1.Volume) bool { return v.Name == "kafka" })].Projected.Sources {
				for _, item := range source.Secret.Items {
					files["/run/secrets/kafka/"+item.Path] = source.Secret.Name
				}
			}
			require.Equal(t, map[string]string{"/run/secrets/kafka/password": "kafka-" + service, "/run/secrets/kafka/ca.crt": "convoflow-cluster-ca-cert"}, files)
			for name, value := range env {
				require.True(t, slices.Contains(sdkSettings, name) || slices.Contains(known, name) || slices.Contains(known, strings.TrimSuffix(name, "_FILE")), "%s: %s", service, name)
				if strings.HasPrefix(value, "/run/secrets/kafka/") {
					require.Contains(t, files, value, name)
				}
			}
			for _, c := range slices.Concat(d.Spec.Template.Spec.InitContainers, d.Spec.Template.Spec.Containers) {
				require.Equal(t, "/run/secrets/kafka", mountPath(t, c, "kafka"), "%s/%s", service, c.Name)
			}
		}
	})
	t.Run("cloudnativepg", func(t *testing.T) {
		t.Parallel()
		m := renderWith(t, overlay("prod"), "cloudnativepg")
		cluster := m.others["Cluster/convoflow"]
		require.NotNil(t, cluster)
		_, backed, _ := unstructured.NestedString(cluster.Object, "spec", "backup", "retentionPolicy")
		require.True(t, backed)
		require.NotNil(t, m.others["ScheduledBackup/convoflow"])
	})
	t.Run("postgres and kafka in the namespace are reached", func(t *testing.T) {
		t.Parallel()
		m := renderWith(t, overlay("prod"), "strimzi", "cloudnativepg")
		all := maps.Clone(wantedWithin)
		for from, to := range wanted {
			all[from] = slices.Concat(all[from], to)
		}
		requireWantedReach(t, slices.Collect(maps.Values(m.policies)), m.deployments, all)
	})
	t.Run("monitoring", func(t *testing.T) {
		t.Parallel()
		m := renderWith(t, overlay("prod"), "monitoring")
		require.NotNil(t, m.others["ServiceMonitor/convoflow"])
		require.NotNil(t, m.others["PrometheusRule/convoflow"])
		admin := m.services["admin"]
		for name, d := range m.deployments {
			for label, value := range admin.Spec.Selector {
				require.Equal(t, value, d.Spec.Template.Labels[label], name)
			}
		}
	})
}

// requireMay requires that a KafkaUser is allowed operations on a topic or group.
func requireMay(t *testing.T, user *unstructured.Unstructured, kind, name string, wanted ...string) {
	require.NotNil(t, user)
	acls, _, err := unstructured.NestedSlice(user.Object, "spec", "authorization", "acls")
	require.NoError(t, err)
	var allowed []string
	for _, acl := range acls {
		resource, _, _ := unstructured.NestedStringMap(acl.(map[string]any), "resource")
		if resource["type"] == kind && resource["name"] == name {
			operations, _, _ := unstructured.NestedStringSlice(acl.(map[string]any), "operations")
			allowed = append(allowed, operations...)
		}
	}
	require.Subset(t, allowed, wanted, "%s on %s %s", user.GetName(), kind, name)
}

var eventName = regexp.MustCompile(`events\.([A-Z]\w+)`)

// topicsOf returns the topics that a service reads, from its routes and the catalog of events.
func topicsOf(t *testing.T, service string) (topics []string) {
	routes, err := os.ReadFile(filepath.Join(root, "services", service, "internal/feed/routes.go"))
	require.NoError(t, err)
	catalog := map[string]string{} // variable of an event type, or a function for several, to its topic
	files, err := filepath.Glob(filepath.Join(root, "api/events/*.go"))
	require.NoError(t, err)
	constants := map[string]string{}
	var all string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		all += string(raw)
	}
	for _, match := range regexp.MustCompile(`(\w+Topic)\s+= "([^"]+)"`).FindAllStringSubmatch(all, -1) {
		constants[match[1]] = match[2]
	}
	for _, match := range regexp.MustCompile(`(\w+)\s+= event\.Type\[\w+\]\{Name: "[^"]+", Topic: (\w+)\}`).FindAllStringSubmatch(all, -1) {
		catalog[match[1]] = constants[match[2]]
	}
	catalog["LeadChanges"] = constants["LeadsTopic"]
	for _, match := range eventName.FindAllStringSubmatch(string(routes), -1) {
		topic, ok := catalog[match[1]]
		require.True(t, ok, "no topic of events.%s", match[1])
		if !slices.Contains(topics, topic) {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	require.NotEmpty(t, topics)
	return topics
}
