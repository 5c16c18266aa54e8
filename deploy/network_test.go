package deploy

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// place is where a connection comes from or goes to: a pod of a namespace, or an address outside of the cluster.
type place struct {
	namespace, pod map[string]string // labels
	address        string            // instead of labels
	ports          []port            // on which something listens there
}

type port struct {
	name   string
	number int
}

// inside reports whether it is in the namespace that the policies are for.
func (p place) inside() bool { return p.namespace["kubernetes.io/metadata.name"] == "convoflow" }

func in(namespace string, pod map[string]string, ports ...int) place {
	at := place{namespace: map[string]string{"kubernetes.io/metadata.name": namespace}, pod: pod}
	for _, n := range ports {
		at.ports = append(at.ports, port{number: n})
	}
	return at
}

func address(of string, ports ...int) place {
	at := in("", nil, ports...)
	at.namespace, at.address = nil, of
	return at
}

func pod(service string) place {
	return in("convoflow", map[string]string{"app.kubernetes.io/name": service, "app.kubernetes.io/part-of": "convoflow"})
}

// others are the places besides the services.
var others = map[string]place{
	"monitoring":      in("monitoring", map[string]string{"app": "prometheus"}, 4318),
	"ingress":         {namespace: map[string]string{"kubernetes.io/metadata.name": "ingress", "convoflow.io/ingress": "true"}, pod: map[string]string{"app": "nginx"}, ports: []port{{number: 443}}},
	"dns":             in("kube-system", map[string]string{"k8s-app": "kube-dns"}, 53),
	"stranger":        in("elsewhere", map[string]string{"app.kubernetes.io/name": "gateway"}, 8080),
	"internet":        address("93.184.215.14", 443, 80, 25),
	"metadata":        address("169.254.169.254", 80, 443),
	"private":         address("192.168.1.1", 443),
	"postgres server": address("10.1.2.3", 5432),
	"kafka server":    address("10.1.2.4", 9092),
	"api server":      address("10.1.2.5", 6443),

	"postgres":      in("convoflow", map[string]string{"cnpg.io/cluster": "convoflow"}, 5432, 8000, 9187),
	"kafka":         in("convoflow", map[string]string{"strimzi.io/cluster": "convoflow"}, 9091, 9093, 9404),
	"cloudnativepg": in("cnpg-system", nil),
	"strimzi":       in("strimzi", nil),
	"keda":          in("keda", nil),
}

// wanted is who may connect to what. Whatever is not in it must be impossible.
var wanted = map[string][]string{
	"gateway":    {"auth:8080", "calls:8080", "crm:8080", "notify:8080", "kafka server:9092", "dns:53", "monitoring:4318"},
	"auth":       {"postgres server:5432", "kafka server:9092", "dns:53", "monitoring:4318"},
	"calls":      {"auth:8080", "crm:8080", "postgres server:5432", "kafka server:9092", "dns:53", "monitoring:4318", "internet:443"},
	"crm":        {"auth:8080", "calls:8080", "postgres server:5432", "kafka server:9092", "dns:53", "monitoring:4318"},
	"notify":     {"auth:8080", "postgres server:5432", "kafka server:9092", "dns:53", "monitoring:4318", "internet:443"},
	"ingress":    {"gateway:8000"},
	"monitoring": {"auth:9090", "calls:9090", "crm:9090", "gateway:9090", "notify:9090"},
}

// wantedWithin is what is wanted besides when PostgreSQL and Kafka run in the namespace. Their pods need each other, their operator and
// the API server, and those of PostgreSQL the bucket of the backups.
var wantedWithin = map[string][]string{
	"auth": {"postgres:5432", "kafka:9093"}, "calls": {"postgres:5432", "kafka:9093"}, "crm": {"postgres:5432", "kafka:9093"},
	"notify": {"postgres:5432", "kafka:9093"}, "gateway": {"kafka:9093"},
	"postgres":      {"postgres:5432", "postgres:8000", "dns:53", "api server:6443", "internet:443", "private:443"},
	"kafka":         {"kafka:9091", "kafka:9093", "dns:53", "api server:6443", "internet:443", "private:443"},
	"cloudnativepg": {"postgres:5432", "postgres:8000"},
	"strimzi":       {"kafka:9091"},
	"keda":          {"kafka:9093"},
	"monitoring":    {"postgres:9187", "kafka:9404"},
}

func TestKubernetesNetworkPoliciesAllowExactlyWhatIsWanted(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, _ string, m manifests) {
		requireWantedReach(t, slices.Collect(maps.Values(m.policies)), m.deployments, wanted)
	})
}

// requireWantedReach requires that the policies allow what is wanted between the places, and nothing else.
func requireWantedReach(t *testing.T, policies []*networkingv1.NetworkPolicy, deployments map[string]*appsv1.Deployment, wanted map[string][]string) {
	require.True(t, slices.ContainsFunc(policies, func(p *networkingv1.NetworkPolicy) bool {
		return reflect.DeepEqual(p.Spec, networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}})
	}), "no policy denies everything to all pods")
	all := maps.Clone(others)
	for _, s := range services {
		at := pod(s)
		for _, p := range container(t, deployments[s]).Ports {
			at.ports = append(at.ports, port{p.Name, int(p.ContainerPort)})
		}
		all[s] = at
	}
	for from, source := range all {
		var reach []string
		for to, target := range all {
			for _, p := range target.ports {
				if (source.inside() || target.inside()) && leaves(t, policies, source, target, p) && enters(t, policies, source, target, p) {
					reach = append(reach, fmt.Sprintf("%s:%d", to, p.number))
				}
			}
		}
		require.ElementsMatch(t, wanted[from], reach, "from %s", from)
	}
}

// leaves reports whether the policies that select the source allow it to connect. Nothing is allowed by one that selects all and
// allows nothing, and that one is there.
func leaves(t *testing.T, policies []*networkingv1.NetworkPolicy, source, target place, p port) bool {
	return !source.inside() || slices.ContainsFunc(policies, func(policy *networkingv1.NetworkPolicy) bool {
		return matches(t, &policy.Spec.PodSelector, source.pod) && slices.ContainsFunc(policy.Spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool { return allows(t, r.To, r.Ports, target, p) })
	})
}

// enters reports the same of the target.
func enters(t *testing.T, policies []*networkingv1.NetworkPolicy, source, target place, p port) bool {
	return !target.inside() || slices.ContainsFunc(policies, func(policy *networkingv1.NetworkPolicy) bool {
		return matches(t, &policy.Spec.PodSelector, target.pod) && slices.ContainsFunc(policy.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool { return allows(t, r.From, r.Ports, source, p) })
	})
}

// allows reports whether a rule is for a peer and a port.
func allows(t *testing.T, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, peer place, p port) bool {
	require.NotEmpty(t, peers, "a rule without peers allows all")
	require.NotEmpty(t, ports, "a rule without ports allows all")
	return slices.ContainsFunc(peers, func(of networkingv1.NetworkPolicyPeer) bool { return includes(t, of, peer) }) &&
		slices.ContainsFunc(ports, func(of networkingv1.NetworkPolicyPort) bool {
			return of.Port.Type == intstr.String && of.Port.StrVal == p.name || of.Port.Type == intstr.Int && int(of.Port.IntVal) == p.number
		})
}

func matches(t *testing.T, selector *metav1.LabelSelector, of map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	require.NoError(t, err)
	return s.Matches(labels.Set(of))
}

func includes(t *testing.T, p networkingv1.NetworkPolicyPeer, at place) bool {
	if p.IPBlock != nil {
		if at.address == "" {
			return false
		}
		address := netip.MustParseAddr(at.address)
		return netip.MustParsePrefix(p.IPBlock.CIDR).Contains(address) &&
			!slices.ContainsFunc(p.IPBlock.Except, func(cidr string) bool { return netip.MustParsePrefix(cidr).Contains(address) })
	}
	if at.address != "" {
		return false
	}
	switch {
	case p.NamespaceSelector != nil && !matches(t, p.NamespaceSelector, at.namespace):
		return false
	case p.NamespaceSelector == nil && at.namespace["kubernetes.io/metadata.name"] != "convoflow":
		return false // without a namespace selector it is the policy's own
	}
	return p.PodSelector == nil || matches(t, p.PodSelector, at.pod)
}
