package bus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/event/eventtest"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{dir: t.TempDir()}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	write(t, a.file("ca.pem"), "CERTIFICATE", der)
	return a
}

func (a authority) file(name string) string { return filepath.Join(a.dir, name) }

func write(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// issue writes the certificate and key of a server at 127.0.0.1 or of a client to name.pem and name-key.pem.
func (a authority) issue(t *testing.T, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	write(t, a.file(name+".pem"), "CERTIFICATE", der)
	write(t, a.file(name+"-key.pem"), "EC PRIVATE KEY", private)
}

func TestMutualTLSWithACustomAuthority(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.issue(t, "broker")
	a.issue(t, "client")
	server, err := tls.LoadX509KeyPair(a.file("broker.pem"), a.file("broker-key.pem"))
	require.NoError(t, err)
	clients := x509.NewCertPool()
	clients.AddCert(a.cert)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)

	ensure := func(change func(*bus.Config)) error {
		cfg := config(cluster.ListenAddrs(), 1)
		cfg.TLS, cfg.CAFile, cfg.CertFile, cfg.KeyFile = true, a.file("ca.pem"), a.file("client.pem"), a.file("client-key.pem")
		change(&cfg)
		require.Empty(t, cfg.Check())
		k, err := bus.Connect(cfg, "test", eventtest.Topics())
		require.NoError(t, err)
		defer k.Close()
		return k.Ensure(t.Context())
	}
	require.Error(t, ensure(func(c *bus.Config) { c.CAFile = "" }), "the system does not know the authority")
	require.Error(t, ensure(func(c *bus.Config) { c.CertFile, c.KeyFile = "", "" }), "the broker asks for a certificate")
	require.NoError(t, ensure(func(*bus.Config) {}))
}
