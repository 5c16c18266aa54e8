package platform

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/convoflow/convoflow/libs/conf"
)

const secretsName = "secrets.json" // in the data directory

// secrets are generated once and stored in the data directory, for settings that are not set.
type secrets struct {
	SecretKey   string `json:"secret_key"`   // SECRET_KEY
	InboxToken  string `json:"inbox_token"`  // the secret part of the inbox's URL
	InboxSecret string `json:"inbox_secret"` // PABBLY_WEBHOOK_SECRET for the inbox

	// Later versions added these. They are added to the file of an earlier one.
	InboxReader    string `json:"inbox_reader"`    // token for reading the inbox from another machine
	BrokerPassword string `json:"broker_password"` // KAFKA_SASL_PASSWORD for the embedded broker
}

// openSecrets reads the file, or creates it if it does not exist. It adds secrets that an earlier version did not have. Without the
// file, the signing keys and webhook secrets in the database cannot be decrypted, so it is written atomically.
func openSecrets(file string) (secrets, error) {
	s, err := readSecrets(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s = secrets{SecretKey: conf.NewSecret(), InboxToken: conf.NewSecret(), InboxSecret: conf.NewSecret()}
	case err != nil || s.InboxReader != "" && s.BrokerPassword != "":
		return s, err
	}
	s.InboxReader, s.BrokerPassword = cmp.Or(s.InboxReader, conf.NewSecret()), cmp.Or(s.BrokerPassword, conf.NewSecret())
	return s, writeSecrets(file, s)
}

func readSecrets(file string) (secrets, error) {
	raw, err := os.ReadFile(file)
	var s secrets
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil && (s.SecretKey == "" || s.InboxToken == "" || s.InboxSecret == "") {
		err = errors.New("a secret is missing")
	}
	if err != nil {
		return s, fmt.Errorf("read %s (it belongs to the database beside it; restore it from a backup): %w", file, err)
	}
	return s, nil
}

func writeSecrets(file string, s secrets) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("marshal the secrets: %w", err)
	}
	f, err := os.OpenFile(file+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("store the secrets: %w", err)
	}
	_, err = f.Write(append(raw, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("store the secrets: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("store the secrets: %w", err)
	}
	return nil
}
