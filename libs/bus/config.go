package bus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/convoflow/convoflow/libs/conf"
)

// Config says how to connect to Kafka.
type Config struct {
	Brokers      []string    `env:"KAFKA_BROKERS"`        // host:port, comma-separated
	Prefix       string      `env:"KAFKA_TOPIC_PREFIX"`   // of the names of all topics and consumer groups
	CreateTopics bool        `env:"KAFKA_CREATE_TOPICS"`  // create missing topics; without it an operator must
	Partitions   int         `env:"KAFKA_PARTITIONS"`     // of the topics that are created
	Replication  int         `env:"KAFKA_REPLICATION"`    // replicas of the topics that are created; 0 is the brokers' default
	TLS          bool        `env:"KAFKA_TLS"`            // encrypt connections and verify the brokers' certificates
	CAFile       string      `env:"KAFKA_TLS_CA_FILE"`    // PEM certificates to verify the brokers with; empty: the system's
	CertFile     string      `env:"KAFKA_TLS_CERT_FILE"`  // PEM certificate of this client, for mutual TLS
	KeyFile      string      `env:"KAFKA_TLS_KEY_FILE"`   // PEM private key of CertFile
	Mechanism    string      `env:"KAFKA_SASL_MECHANISM"` // none, plain, scram-sha-256, scram-sha-512
	User         string      `env:"KAFKA_SASL_USER"`
	Password     conf.Secret `env:"KAFKA_SASL_PASSWORD"`
}

// Defaults has 12 partitions per topic: at most that many replicas of a service can share its work.
func Defaults() Config { return Config{CreateTopics: true, Partitions: 12, Mechanism: "none"} }

// topicPrefix is what Kafka allows in a topic's name. Names have up to 249 characters; the platform's own need about 60.
var topicPrefix = regexp.MustCompile(`^[a-zA-Z0-9._-]{0,100}$`)

// Check lists the problems with the configuration.
func (c Config) Check() []string {
	var problems []string
	if len(c.Brokers) == 0 {
		problems = append(problems, "KAFKA_BROKERS is not set: host:port, comma-separated")
	}
	for _, b := range c.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			problems = append(problems, "KAFKA_BROKERS must be host:port, comma-separated: "+b)
		}
	}
	if !topicPrefix.MatchString(c.Prefix) {
		problems = append(problems, "KAFKA_TOPIC_PREFIX may have up to 100 letters, digits, dots, hyphens and underscores")
	}
	if c.Partitions < 1 {
		problems = append(problems, "KAFKA_PARTITIONS must be 1 or more")
	}
	if c.Replication < 0 || c.Replication > 32767 {
		problems = append(problems, "KAFKA_REPLICATION must be 1 or more, or 0 for the brokers' default")
	}
	if _, err := c.mechanism(); err != nil {
		problems = append(problems, "KAFKA_SASL_MECHANISM: "+err.Error())
	}
	if _, err := c.tls(); err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

func (c Config) mechanism() (sasl.Mechanism, error) {
	switch strings.ToLower(c.Mechanism) {
	case "none":
		return nil, nil
	case "plain":
		return plain.Mechanism{Username: c.User, Password: c.Password.Reveal()}, nil
	case "scram-sha-256":
		return scram.Mechanism(scram.SHA256, c.User, c.Password.Reveal())
	case "scram-sha-512":
		return scram.Mechanism(scram.SHA512, c.User, c.Password.Reveal())
	default:
		return nil, errors.New("must be none, plain, scram-sha-256 or scram-sha-512")
	}
}

// tls returns nil without KAFKA_TLS.
func (c Config) tls() (*tls.Config, error) {
	if !c.TLS {
		if c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" {
			return nil, errors.New("KAFKA_TLS_CA_FILE, KAFKA_TLS_CERT_FILE and KAFKA_TLS_KEY_FILE need KAFKA_TLS=true")
		}
		return nil, nil
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("KAFKA_TLS_CA_FILE: %w", err)
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("KAFKA_TLS_CA_FILE has no PEM certificate")
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("KAFKA_TLS_CERT_FILE and KAFKA_TLS_KEY_FILE: %w", err)
		}
		secure.Certificates = []tls.Certificate{cert}
	}
	return secure, nil
}
