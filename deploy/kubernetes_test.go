package deploy

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// environments are the folders of k8s/overlays. The secrets of dev are files; those of the others come from a store.
var environments = []string{"dev", "staging", "prod"}

func overlay(environment string) string { return filepath.Join("k8s/overlays", environment) }

var services = []string{"auth", "calls", "crm", "gateway", "notify"}

// manifests are the rendered objects of a folder, by name.
type manifests struct {
	deployments map[string]*appsv1.Deployment
	services    map[string]*corev1.Service
	accounts    map[string]*corev1.ServiceAccount
	budgets     map[string]*policyv1.PodDisruptionBudget
	settings    map[string]*corev1.ConfigMap
	secrets     map[string]*corev1.Secret
	namespaces  map[string]*corev1.Namespace
	scalers     map[string]*autoscalingv2.HorizontalPodAutoscaler
	policies    map[string]*networkingv1.NetworkPolicy
	ingresses   map[string]*networkingv1.Ingress
	others      map[string]*unstructured.Unstructured // custom resources, by kind/name
}

// customKinds are the custom resources that the manifests use, with the API version that their operators serve.
var customKinds = map[string]string{
	"ExternalSecret": "external-secrets.io/v1", "ScaledObject": "keda.sh/v1alpha1", "HTTPRoute": "gateway.networking.k8s.io/v1",
	"Kafka": "kafka.strimzi.io/v1", "KafkaNodePool": "kafka.strimzi.io/v1", "KafkaTopic": "kafka.strimzi.io/v1", "KafkaUser": "kafka.strimzi.io/v1",
	"Cluster": "postgresql.cnpg.io/v1", "ScheduledBackup": "postgresql.cnpg.io/v1",
	"ServiceMonitor": "monitoring.coreos.com/v1", "PrometheusRule": "monitoring.coreos.com/v1",
}

// rendered are the manifests of folders that have been rendered, which nobody changes.
var rendered struct {
	sync.Mutex
	folders map[string]manifests
}

// render renders a folder once, as kubectl apply -k does. It fails for fields that the API types do not have.
func render(t *testing.T, folder string) manifests {
	rendered.Lock()
	defer rendered.Unlock()
	if m, ok := rendered.folders[folder]; ok {
		return m
	}
	if rendered.folders == nil {
		rendered.folders = map[string]manifests{}
	}
	rendered.folders[folder] = renderNow(t, folder)
	return rendered.folders[folder]
}

func renderNow(t *testing.T, folder string) manifests {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme, autoscalingv2.AddToScheme, networkingv1.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	require.NoError(t, err)
	m := manifests{
		map[string]*appsv1.Deployment{}, map[string]*corev1.Service{}, map[string]*corev1.ServiceAccount{}, map[string]*policyv1.PodDisruptionBudget{},
		map[string]*corev1.ConfigMap{}, map[string]*corev1.Secret{}, map[string]*corev1.Namespace{},
		map[string]*autoscalingv2.HorizontalPodAutoscaler{}, map[string]*networkingv1.NetworkPolicy{}, map[string]*networkingv1.Ingress{}, map[string]*unstructured.Unstructured{},
	}
	for _, resource := range built.Resources() {
		text, err := resource.AsYAML()
		require.NoError(t, err)
		if version, ok := customKinds[resource.GetKind()]; ok {
			require.Equal(t, version, resource.GetApiVersion(), resource.GetName())
			object := &unstructured.Unstructured{}
			require.NoError(t, yaml.UnmarshalStrict(text, object))
			m.others[resource.GetKind()+"/"+resource.GetName()] = object
			continue
		}
		object, _, err := decoder.Decode(text, nil, nil)
		require.NoError(t, err, "%s", text)
		switch o := object.(type) {
		case *appsv1.Deployment:
			m.deployments[o.Name] = o
		case *corev1.Service:
			m.services[o.Name] = o
		case *corev1.ServiceAccount:
			m.accounts[o.Name] = o
		case *policyv1.PodDisruptionBudget:
			m.budgets[o.Name] = o
		case *corev1.ConfigMap:
			m.settings[o.Name] = o
		case *corev1.Secret:
			m.secrets[o.Name] = o
		case *corev1.Namespace:
			m.namespaces[o.Name] = o
		case *autoscalingv2.HorizontalPodAutoscaler:
			m.scalers[o.Name] = o
		case *networkingv1.NetworkPolicy:
			m.policies[o.Name] = o
		case *networkingv1.Ingress:
			m.ingresses[o.Name] = o
		default:
			t.Fatalf("no test checks a %T", o)
		}
	}
	return m
}

// container returns the container of the service.
func container(t *testing.T, d *appsv1.Deployment) corev1.Container {
	require.Len(t, d.Spec.Template.Spec.Containers, 1)
	return d.Spec.Template.Spec.Containers[0]
}

// forEachEnvironment runs a test for each environment.
func forEachEnvironment(t *testing.T, test func(t *testing.T, environment string, m manifests)) {
	t.Parallel()
	for _, e := range environments {
		t.Run(e, func(t *testing.T) {
			t.Parallel()
			test(t, e, render(t, overlay(e)))
		})
	}
}

// Each service is applied, upgraded and rolled back by itself: its folder has all that is its own and nothing else, as in the whole.
func TestKubernetesEachServiceIsAppliedAlone(t *testing.T) {
	t.Parallel()
	for _, e := range environments {
		whole := render(t, overlay(e))
		require.Equal(t, services, slices.Sorted(maps.Keys(whole.deployments)))
		require.Equal(t, "restricted", whole.namespaces["convoflow"].Labels["pod-security.kubernetes.io/enforce"])
		for _, service := range services {
			alone := render(t, filepath.Join(overlay(e), service))
			require.Equal(t, map[string]*appsv1.Deployment{service: whole.deployments[service]}, alone.deployments, "%s %s", e, service)
			require.Equal(t, map[string]*networkingv1.NetworkPolicy{service: whole.policies[service]}, alone.policies)
			require.Equal(t, map[string]*autoscalingv2.HorizontalPodAutoscaler{service: whole.scalers[service]}, alone.scalers)
			for _, names := range [][]string{slices.Collect(maps.Keys(alone.services)), slices.Collect(maps.Keys(alone.accounts)), slices.Collect(maps.Keys(alone.budgets))} {
				require.Equal(t, []string{service}, names)
			}
			require.Len(t, alone.settings, 1)
			require.Empty(t, alone.namespaces, "deleting a service must not delete the namespace")
		}
	}
}

// kubectl apply --prune --selector finds what has the label, and applies nothing else.
func TestKubernetesEverythingIsPartOfConvoflow(t *testing.T) {
	t.Parallel()
	for _, e := range environments {
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), overlay(e))
		require.NoError(t, err)
		for _, resource := range built.Resources() {
			require.Equal(t, "convoflow", resource.GetLabels()["app.kubernetes.io/part-of"], "%s: %s/%s", e, resource.GetKind(), resource.GetName())
		}
	}
}

// A setting that several services share restarts these, and no others.
func TestKubernetesSharedSettingsRestartOnlyWhoReadsThem(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, e string, m manifests) {
		for _, shared := range []struct {
			setting string
			readers []string
		}{
			{"KAFKA_BROKERS", services}, {"LOG_LEVEL", services},
			{"MAX_AUDIO_SIZE_MB", []string{"calls", "gateway"}}, {"DEFAULT_COUNTRY", []string{"calls", "crm"}},
		} {
			var readers []string
			for name, d := range m.deployments {
				if _, has := environment(t, m, d)[shared.setting]; has {
					readers = append(readers, name)
				}
			}
			slices.Sort(readers)
			require.Equal(t, shared.readers, readers, "%s: %s", e, shared.setting)
		}
	})
}

func TestKubernetesPodsAreRestricted(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, e string, m manifests) {
		evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
		require.NoError(t, err)
		restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		for name, d := range m.deployments {
			pod := d.Spec.Template
			verdict := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
			require.True(t, verdict.Allowed, "%s: %s", name, verdict.ForbiddenDetail())
			require.False(t, *pod.Spec.AutomountServiceAccountToken, name)
			require.False(t, *m.accounts[pod.Spec.ServiceAccountName].AutomountServiceAccountToken, name)
			for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
				require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, "%s/%s", name, c.Name)
				require.False(t, c.Resources.Limits.Memory().IsZero(), "%s/%s", name, c.Name)
				require.False(t, c.Resources.Requests.Cpu().IsZero(), "%s/%s", name, c.Name)
			}
		}
	})
}

func TestKubernetesPodsHaveProbesAndDrain(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, e string, m manifests) {
		for name, d := range m.deployments {
			c := container(t, d)
			for path, probe := range map[string]*corev1.Probe{"/health": c.LivenessProbe, "/ready": c.ReadinessProbe} {
				require.NotNil(t, probe, name)
				require.Equal(t, path, probe.HTTPGet.Path, name)
				require.Equal(t, "admin", probe.HTTPGet.Port.String(), name)
			}
			require.Equal(t, "/health", c.StartupProbe.HTTPGet.Path, "%s: a pod that is not ready yet must not be restarted", name)
			require.Zero(t, d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue(), name)
			require.Nil(t, d.Spec.Replicas, "%s: the autoscaler decides, and each apply would set it back", name)

			// preStop, then requests, then 10 s for jobs and 5 s for connections: the kernel must not end what the process would.
			drain := 8 * time.Second
			if set := environment(t, m, d)["HTTP_DRAIN_TIME"]; set != "" {
				var err error
				drain, err = time.ParseDuration(set)
				require.NoError(t, err)
			}
			require.EqualValues(t, 5, c.Lifecycle.PreStop.Sleep.Seconds, name)
			grace := time.Duration(*d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
			require.GreaterOrEqual(t, grace, 5*time.Second+drain+15*time.Second, name)
			if name == "calls" || name == "gateway" {
				require.Equal(t, 300*time.Second, grace, "%s: uploads pass through it", name)
			}
		}
	})
}

func TestKubernetesMigrationsRunBeforeServicesWithTables(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, e string, m manifests) {
		for name, d := range m.deployments {
			if name == "gateway" {
				require.Empty(t, d.Spec.Template.Spec.InitContainers)
				continue
			}
			require.Len(t, d.Spec.Template.Spec.InitContainers, 1, name)
			migrate, service := d.Spec.Template.Spec.InitContainers[0], container(t, d)
			require.Equal(t, []string{"migrate"}, migrate.Args, name)
			require.Equal(t, service.Image, migrate.Image, name)
			require.Equal(t, service.EnvFrom, migrate.EnvFrom, name)
		}
	})
}

func TestKubernetesReferencesExist(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, e string, m manifests) {
		for name, d := range m.deployments {
			pod := d.Spec.Template
			require.Contains(t, m.accounts, pod.Spec.ServiceAccountName, name)
			for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
				_, tag, _ := strings.Cut(c.Image, ":")
				require.NotContains(t, []string{"", "latest"}, tag, "%s is not pinned", c.Image)
				for _, from := range c.EnvFrom {
					require.Contains(t, m.settings, from.ConfigMapRef.Name, name)
				}
			}
			for _, v := range pod.Spec.Volumes {
				if v.Secret != nil {
					require.NotEmpty(t, secretKeys(m, v.Secret.SecretName), name)
					require.EqualValues(t, 0o440, *v.Secret.DefaultMode, name)
				}
			}
			requireSelects(t, name, d.Spec.Selector, pod.Labels)
			requireSelects(t, name, m.budgets[name].Spec.Selector, pod.Labels)
			for _, spread := range pod.Spec.TopologySpreadConstraints {
				requireSelects(t, name, spread.LabelSelector, pod.Labels)
			}
			requireSelects(t, name, &metav1.LabelSelector{MatchLabels: m.services[name].Spec.Selector}, pod.Labels)
			for _, label := range []string{"name", "component", "part-of", "managed-by"} {
				require.NotEmpty(t, pod.Labels["app.kubernetes.io/"+label], "%s has no label %s", name, label)
			}
			for _, port := range m.services[name].Spec.Ports {
				require.True(t, slices.ContainsFunc(container(t, d).Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.String() }), name)
			}
		}
	})
}

// requireSelects requires that a selector matches the pods of its service and of no other.
func requireSelects(t *testing.T, service string, selector *metav1.LabelSelector, pod map[string]string) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	require.NoError(t, err)
	require.True(t, s.Matches(labels.Set(pod)), service)
	other := maps.Clone(pod)
	other["app.kubernetes.io/name"] = "other"
	require.False(t, s.Matches(labels.Set(other)), service)
}

func TestKubernetesAddressesAreThoseOfServices(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, e string, m manifests) {
		for name, d := range m.deployments {
			for key, value := range environment(t, m, d) {
				host, isURL := strings.CutPrefix(value, "http://")
				if !isURL {
					continue
				}
				host, port, _ := strings.Cut(host, ":")
				if strings.Contains(host, ".") {
					continue // of another namespace
				}
				require.Contains(t, m.services, host, "%s: %s", name, key)
				require.Equal(t, port, strconv.Itoa(int(m.services[host].Spec.Ports[0].Port)), "%s: %s", name, key)
			}
		}
	})
}

// environment returns the variables that the container of a deployment gets from its config maps.
func environment(t *testing.T, m manifests, d *appsv1.Deployment) map[string]string {
	env := map[string]string{}
	for _, from := range container(t, d).EnvFrom {
		require.NotNil(t, from.ConfigMapRef)
		maps.Copy(env, m.settings[from.ConfigMapRef.Name].Data)
	}
	return env
}

// secretKeys returns the keys of a Secret, whether it is in the manifests or made by External Secrets.
func secretKeys(m manifests, name string) (keys []string) {
	for full, secret := range m.secrets {
		if full == name {
			keys = slices.Collect(maps.Keys(secret.Data))
		}
	}
	if external := m.others["ExternalSecret/"+name]; external != nil {
		data, _, _ := unstructured.NestedSlice(external.Object, "spec", "data")
		for _, d := range data {
			key, _, _ := unstructured.NestedString(d.(map[string]any), "secretKey")
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
