package deploy

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const overlay = "k8s/overlays/example"

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
}

// render renders a folder as kubectl apply -k does. It fails for fields that the API types do not have.
func render(t *testing.T, folder string) manifests {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	require.NoError(t, err)
	m := manifests{
		map[string]*appsv1.Deployment{}, map[string]*corev1.Service{}, map[string]*corev1.ServiceAccount{}, map[string]*policyv1.PodDisruptionBudget{},
		map[string]*corev1.ConfigMap{}, map[string]*corev1.Secret{}, map[string]*corev1.Namespace{},
	}
	for _, resource := range rendered.Resources() {
		text, err := resource.AsYAML()
		require.NoError(t, err)
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

func TestKubernetesBaseOfEachServiceRendersAlone(t *testing.T) {
	t.Parallel()
	for _, service := range services {
		m := render(t, filepath.Join("k8s/base", service))
		for _, names := range [][]string{slices.Collect(maps.Keys(m.deployments)), slices.Collect(maps.Keys(m.services)), slices.Collect(maps.Keys(m.accounts)), slices.Collect(maps.Keys(m.budgets))} {
			require.Equal(t, []string{service}, names)
		}
		require.Empty(t, m.secrets, "a base has no secret")
	}
}

func TestKubernetesOverlayHasEveryService(t *testing.T) {
	t.Parallel()
	m := render(t, overlay)
	require.Equal(t, services, slices.Sorted(maps.Keys(m.deployments)))
	require.Equal(t, "restricted", m.namespaces["convoflow"].Labels["pod-security.kubernetes.io/enforce"])
}

func TestKubernetesPodsAreRestricted(t *testing.T) {
	t.Parallel()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for name, d := range render(t, overlay).deployments {
		pod := d.Spec.Template
		verdict := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
		require.True(t, verdict.Allowed, "%s: %s", name, verdict.ForbiddenDetail())
		require.False(t, *pod.Spec.AutomountServiceAccountToken, name)
		for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, "%s/%s", name, c.Name)
			require.False(t, c.Resources.Limits.Memory().IsZero(), "%s/%s", name, c.Name)
			require.False(t, c.Resources.Requests.Cpu().IsZero(), "%s/%s", name, c.Name)
		}
	}
}

func TestKubernetesPodsHaveProbesAndDrain(t *testing.T) {
	t.Parallel()
	for name, d := range render(t, overlay).deployments {
		c := container(t, d)
		for path, probe := range map[string]*corev1.Probe{"/health": c.LivenessProbe, "/ready": c.ReadinessProbe} {
			require.NotNil(t, probe, name)
			require.Equal(t, path, probe.HTTPGet.Path, name)
			require.Equal(t, "admin", probe.HTTPGet.Port.String(), name)
		}
		require.Equal(t, "/health", c.StartupProbe.HTTPGet.Path, "%s: a pod that is not ready yet must not be restarted", name)
		require.EqualValues(t, 5, c.Lifecycle.PreStop.Sleep.Seconds, name)
		require.EqualValues(t, 45, *d.Spec.Template.Spec.TerminationGracePeriodSeconds, name)
		require.Zero(t, d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue(), name)
		require.GreaterOrEqual(t, *d.Spec.Replicas, int32(2), name)
	}
}

func TestKubernetesMigrationsRunBeforeServicesWithTables(t *testing.T) {
	t.Parallel()
	for name, d := range render(t, overlay).deployments {
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
}

func TestKubernetesReferencesExist(t *testing.T) {
	t.Parallel()
	m := render(t, overlay)
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
				require.Contains(t, m.secrets, v.Secret.SecretName, name)
				require.EqualValues(t, 0o440, *v.Secret.DefaultMode, name)
			}
		}
		requireSelects(t, name, d.Spec.Selector, pod.Labels)
		requireSelects(t, name, m.budgets[name].Spec.Selector, pod.Labels)
		requireSelects(t, name, pod.Spec.TopologySpreadConstraints[0].LabelSelector, pod.Labels)
		requireSelects(t, name, &metav1.LabelSelector{MatchLabels: m.services[name].Spec.Selector}, pod.Labels)
		for _, label := range []string{"name", "component", "part-of", "managed-by"} {
			require.NotEmpty(t, pod.Labels["app.kubernetes.io/"+label], "%s has no label %s", name, label)
		}
		for _, port := range m.services[name].Spec.Ports {
			require.True(t, slices.ContainsFunc(container(t, d).Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.String() }), name)
		}
	}
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
	t.Parallel()
	m := render(t, overlay)
	for name, d := range m.deployments {
		for key, value := range environment(t, m, d) {
			host, isURL := strings.CutPrefix(value, "http://")
			if !isURL {
				continue
			}
			host, port, _ := strings.Cut(host, ":")
			require.Contains(t, m.services, host, "%s: %s", name, key)
			require.Equal(t, port, strconv.Itoa(int(m.services[host].Spec.Ports[0].Port)), "%s: %s", name, key)
		}
	}
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
