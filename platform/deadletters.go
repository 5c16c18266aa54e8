package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/bus"
	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/platform/internal/broker"
)

// ErrNotRunning means that no platform runs on the data directory, so that its broker cannot be reached.
var ErrNotRunning = errors.New("no platform is running on this data directory")

// Kafka connects to the broker that the settings name, or else to the broker of the platform that runs on o.DataDir. For invalid
// settings the error is a *conf.Error. The caller must close the connection.
func Kafka(o Options) (*bus.Kafka, error) {
	environ := o.Environ
	if value(environ, "KAFKA_BROKERS") == "" {
		running, err := brokerSettings(o.DataDir)
		if err != nil {
			return nil, err
		}
		environ = append(withoutKafka(environ), running...)
	}
	cfg, err := conf.Load(kafkaSettings{bus.Defaults()}, environ)
	if err != nil {
		return nil, fmt.Errorf("read the settings: %w", err)
	}
	return bus.Connect(cfg.Kafka, "dlq", events.Topics())
}

// kafkaSettings are the settings of Kafka alone.
type kafkaSettings struct{ Kafka bus.Config }

// Check implements conf.Checker.
func (s kafkaSettings) Check() []string { return s.Kafka.Check() }

// withoutKafka returns the environment without the settings of Kafka.
func withoutKafka(environ []string) (rest []string) {
	for _, e := range environ {
		if !strings.HasPrefix(e, "KAFKA_") {
			rest = append(rest, e)
		}
	}
	return rest
}

// brokerSettings returns the settings with which to reach the broker of the platform that runs on the data directory.
func brokerSettings(dataDir string) ([]string, error) {
	address, password, err := runningBroker(dataDir)
	if err != nil {
		return nil, err
	}
	return []string{
		"KAFKA_BROKERS=" + address, "KAFKA_SASL_MECHANISM=" + broker.Mechanism,
		"KAFKA_SASL_USER=" + broker.User, "KAFKA_SASL_PASSWORD=" + password,
	}, nil
}

// runningBroker returns the address and the password of the broker of the platform that runs on the data directory.
func runningBroker(dataDir string) (address, password string, err error) {
	raw, err := os.ReadFile(brokerFile(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("%w: %s; set KAFKA_BROKERS to use another Kafka", ErrNotRunning, dataDir)
	}
	if err != nil {
		return "", "", fmt.Errorf("read the address of the broker: %w", err)
	}
	stored, err := readSecrets(filepath.Join(dataDir, secretsName))
	return strings.TrimSpace(string(raw)), stored.BrokerPassword, err
}

// brokerFile has the address of the embedded broker while it runs, and after a crash that of the last one.
func brokerFile(dataDir string) string { return filepath.Join(dataDir, "kafka.address") }
