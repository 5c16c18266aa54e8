// Package kubernetes runs the control plane of Kubernetes for tests, on loopback and as child processes: etcd, the API server, the
// controllers and the scheduler, which are the real ones, and kwok, which plays the nodes: a pod that is scheduled is ready at once,
// and no container runs. It needs what scripts/kubernetes builds.
package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/test/internal/program"
)

// ToolsVariable is the environment variable with the directory of scripts/kubernetes.
const ToolsVariable = "TEST_KUBERNETES"

const pollInterval = 50 * time.Millisecond

// Cluster is a control plane that runs.
type Cluster struct {
	dir, bin  string
	processes []*program.Process
}

// Start starts a control plane with its data in dir and the programs in tools, and returns when the API server is ready. ctx limits
// the start, not its life.
func Start(ctx context.Context, dir, tools string) (*Cluster, error) {
	c := &Cluster{dir: dir, bin: filepath.Join(tools, "bin")}
	if err := c.start(ctx, filepath.Join(tools, "stages.yaml")); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Kubeconfig is the file with the address and the credentials of an administrator.
func (c *Cluster) Kubeconfig() string { return c.file("kubeconfig") }

// Close kills all processes.
func (c *Cluster) Close() error {
	for _, p := range c.processes {
		p.Kill()
	}
	return nil
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) start(ctx context.Context, stages string) error {
	ports := program.NewPorts()
	addresses := map[string]string{}
	for _, of := range []string{"etcd", "peer", "api", "kwok"} {
		var err error
		if addresses[of], err = ports.Free(); err != nil {
			return err
		}
	}
	if err := errors.Join(c.writeCertificates(), c.writeKubeconfig(addresses["api"])); err != nil {
		return err
	}
	etcd, peer := "http://"+addresses["etcd"], "http://"+addresses["peer"]
	if err := c.launch("etcd", "--data-dir="+c.file("etcd"), "--listen-client-urls="+etcd, "--advertise-client-urls="+etcd, "--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer, "--unsafe-no-fsync", "--log-level=warn"); err != nil {
		return err
	}
	server, err := c.launchServer(etcd, addresses["api"])
	if err != nil {
		return err
	}
	if err := c.awaitReady(ctx, server, "https://"+addresses["api"]+"/readyz"); err != nil {
		return err
	}
	return errors.Join(
		c.launch("kube-controller-manager", "--kubeconfig="+c.Kubeconfig(), "--leader-elect=false", "--secure-port=0", "--root-ca-file="+c.file("ca.crt"),
			"--horizontal-pod-autoscaler-sync-period=1s"),
		c.launch("kube-scheduler", "--kubeconfig="+c.Kubeconfig(), "--leader-elect=false", "--secure-port=0"),
		c.launch("kwok", "--kubeconfig="+c.Kubeconfig(), "--manage-all-nodes=true", "--config="+stages, "--node-lease-duration-seconds=40",
			"--node-ip=127.0.0.1", "--server-address="+addresses["kwok"]),
	)
}

func (c *Cluster) launchServer(etcd, address string) (*program.Process, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	err = c.launch("kube-apiserver", "--etcd-servers="+etcd, "--bind-address=127.0.0.1", "--secure-port="+port, "--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", // which would refuse an address of loopback
		"--cert-dir="+c.dir, "--tls-cert-file="+c.file("server.crt"), "--tls-private-key-file="+c.file("server.key"), "--client-ca-file="+c.file("ca.crt"),
		"--authorization-mode=RBAC", "--allow-privileged=true", "--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+c.file("accounts.crt"), "--service-account-signing-key-file="+c.file("accounts.key"))
	if err != nil {
		return nil, err
	}
	return c.processes[len(c.processes)-1], nil
}

func (c *Cluster) launch(name string, arguments ...string) error {
	p, err := program.Start(program.Program{Name: name, Argv: append([]string{filepath.Join(c.bin, name)}, arguments...), Environ: []string{"HOME=" + c.dir}, Dir: c.dir})
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return err
}

func (c *Cluster) writeCertificates() error {
	a, err := newAuthority(c.dir, clock.System{}.Now())
	if err != nil {
		return err
	}
	return errors.Join(a.issue("server", "server"), a.issue("accounts", "accounts"), a.issue("admin", "system:masters"))
}

func (c *Cluster) writeKubeconfig(address string) error {
	return os.WriteFile(c.Kubeconfig(), fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: admin}}]
clusters: [{name: test, cluster: {server: "https://%s", certificate-authority: ca.crt}}]
users: [{name: admin, user: {client-certificate: admin.crt, client-key: admin.key}}]
`, address), 0o600)
}

// awaitReady waits until the API server can be used. An end of another process, which it needs, shows as its own end.
func (c *Cluster) awaitReady(ctx context.Context, server *program.Process, url string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if response, err := client.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-server.Done():
			return fmt.Errorf("the API server ended during its start:\n%s", c.Log())
		case <-ctx.Done():
			return fmt.Errorf("the API server does not serve: %w:\n%s", ctx.Err(), c.Log())
		case <-tick.C:
		}
	}
}

func (c *Cluster) client() (*http.Client, error) {
	ca, err := os.ReadFile(c.file("ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	admin, err := tls.LoadX509KeyPair(c.file("admin.crt"), c.file("admin.key"))
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{admin}, MinVersion: tls.VersionTLS13}}}, nil
}

// Log is the end of what each process has logged.
func (c *Cluster) Log() string {
	var all []byte
	for _, p := range c.processes {
		all = fmt.Appendf(all, "%s:\n%s\n", p.Name, program.Tail(p.Output.String()))
	}
	return string(all)
}
