package deploy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// place is where a connection comes from or goes to: a pod of a namespace, or an address outside of the cluster.
type place struct {
	namespace, pod map[string]string // labels
	address        string            // instead of labels
}

func pod(service string) place {
	return place{namespace: map[string]string{"kubernetes.io/metadata.name": "convoflow"}, pod: map[string]string{"app.kubernetes.io/name": service, "app.kubernetes.io/part-of": "convoflow"}}
}

func in(namespace string, pod map[string]string) place {
	return place{namespace: map[string]string{"kubernetes.io/metadata.name": namespace}, pod: pod}
}

// others are the places besides the services, with the ports on which something listens there.
var others = map[string]struct {
	place
	ports []int
}{
	"postgres":   {place{namespace: map[string]string{"kubernetes.io/metadata.name": "convoflow"}, pod: map[string]string{"cnpg.io/cluster": "convoflow"}}, []int{5432}},
	"kafka":      {place{namespace: map[string]string{"kubernetes.io/metadata.name": "convoflow"}, pod: map[string]string{"strimzi.io/cluster": "convoflow"}}, []int{9093}},
	"monitoring": {in("monitoring", map[string]string{"app": "prometheus"}), []int{4318}},
	"ingress":    {place{namespace: map[string]string{"kubernetes.io/metadata.name": "ingress", "convoflow.io/ingress": "true"}, pod: map[string]string{"app": "nginx"}}, []int{443}},
	"dns":        {in("kube-system", map[string]string{"k8s-app": "kube-dns"}), []int{53}},
	"stranger":   {in("elsewhere", map[string]string{"app.kubernetes.io/name": "gateway"}), []int{8080}},
	"internet":   {place{address: "93.184.215.14"}, []int{443, 80, 25}},
	"metadata":   {place{address: "169.254.169.254"}, []int{80, 443}},
	"private":    {place{address: "192.168.1.1"}, []int{443}},
}

// wanted is who may connect to what. Whatever is not in it must be impossible.
var wanted = map[string][]string{
	"gateway":    {"auth:8080", "calls:8080", "crm:8080", "notify:8080", "kafka:9093", "dns:53", "monitoring:4318"},
	"auth":       {"postgres:5432", "kafka:9093", "dns:53", "monitoring:4318"},
	"calls":      {"auth:8080", "crm:8080", "postgres:5432", "kafka:9093", "dns:53", "monitoring:4318", "internet:443"},
	"crm":        {"auth:8080", "calls:8080", "postgres:5432", "kafka:9093", "dns:53", "monitoring:4318"},
	"notify":     {"auth:8080", "postgres:5432", "kafka:9093", "dns:53", "monitoring:4318", "internet:443"},
	"ingress":    {"gateway:8000"},
	"monitoring": {"auth:9090", "calls:9090", "crm:9090", "gateway:9090", "notify:9090"},
}

func TestKubernetesNetworkPoliciesAllowExactlyWhatIsWanted(t *testing.T) {
	forEachEnvironment(t, func(t *testing.T, e string, m manifests) {
		everywhere := m.policies["default-deny"]
		require.Equal(t, networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"}}, everywhere.Spec, "an empty selector denies everything to all pods")
		places, ports := map[string]place{}, map[string][]int{}
		for name, o := range others {
			places[name], ports[name] = o.place, o.ports
		}
		named := map[string]int{}
		for _, s := range services {
			places[s] = pod(s)
			for _, p := range container(t, m.deployments[s]).Ports {
				ports[s] = append(ports[s], int(p.ContainerPort))
				named[s+" "+p.Name] = int(p.ContainerPort)
			}
		}
		reach := map[string][]string{}
		for from, source := range places {
			for to, target := range places {
				for _, port := range ports[to] {
					if from == to {
						continue
					}
					leaves := !slices.Contains(services, from) || allows(t, m.policies[from].Spec.Egress, nil, target, port, func(name string) int { return named[to+" "+name] })
					enters := !slices.Contains(services, to) || allows(t, nil, m.policies[to].Spec.Ingress, source, port, func(name string) int { return named[to+" "+name] })
					if leaves && enters && (slices.Contains(services, from) || slices.Contains(services, to)) {
						reach[from] = append(reach[from], fmt.Sprintf("%s:%d", to, port))
					}
				}
			}
		}
		for _, from := range slices.Sorted(maps.Keys(places)) {
			require.ElementsMatch(t, wanted[from], reach[from], "%s: from %s", e, from)
		}
	})
}

// allows reports whether the rules of a policy allow a connection with a peer on a port.
func allows(t *testing.T, egress []networkingv1.NetworkPolicyEgressRule, ingress []networkingv1.NetworkPolicyIngressRule, peer place, port int, number func(name string) int) bool {
	match := func(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) bool {
		require.NotEmpty(t, peers, "a rule without peers allows all")
		require.NotEmpty(t, ports, "a rule without ports allows all")
		return slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool { return includes(t, p, peer) }) &&
			slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
				if p.Port.Type == intstr.String {
					return number(p.Port.StrVal) == port
				}
				return int(p.Port.IntVal) == port
			})
	}
	for _, r := range egress {
		if match(r.To, r.Ports) {
			return true
		}
	}
	for _, r := range ingress {
		if match(r.From, r.Ports) {
			return true
		}
	}
	return false
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
	matches := func(selector *metav1.LabelSelector, of map[string]string) bool {
		s, err := metav1.LabelSelectorAsSelector(selector)
		require.NoError(t, err)
		return s.Matches(labels.Set(of))
	}
	switch {
	case p.NamespaceSelector != nil && !matches(p.NamespaceSelector, at.namespace):
		return false
	case p.NamespaceSelector == nil && at.namespace["kubernetes.io/metadata.name"] != "convoflow":
		return false // without a namespace selector it is the policy's own
	}
	return p.PodSelector == nil || matches(p.PodSelector, at.pod)
}
