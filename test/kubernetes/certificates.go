package kubernetes

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity is longer than any test.
const validity = 24 * time.Hour

// authority signs the certificates of a cluster: ca.crt, and NAME.crt and NAME.key for each that is issued.
type authority struct {
	dir         string
	now         time.Time
	certificate *x509.Certificate
	key         crypto.Signer
}

func newAuthority(dir string, now time.Time) (*authority, error) {
	a := &authority{dir: dir, now: now}
	template := a.template(pkix.Name{CommonName: "convoflow test"})
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	a.certificate = template // it signs itself
	return a, a.write("ca", template, func(key crypto.Signer) { a.key = key })
}

// issue makes a certificate for a server on loopback and for a client, of that name and group.
func (a *authority) issue(name, group string) error {
	template := a.template(pkix.Name{CommonName: name, Organization: []string{group}})
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return a.write(name, template, func(crypto.Signer) {})
}

func (a *authority) template(subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // crypto/rand never fails
	return &x509.Certificate{SerialNumber: serial, Subject: subject, NotBefore: a.now.Add(-time.Minute), NotAfter: a.now.Add(validity)}
}

func (a *authority) write(name string, template *x509.Certificate, use func(crypto.Signer)) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	use(key)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(a.writePEM(name+".crt", "CERTIFICATE", der), a.writePEM(name+".key", "PRIVATE KEY", private))
}

func (a *authority) writePEM(file, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
