package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/convoflow/convoflow/libs/conf"
	"github.com/convoflow/convoflow/platform/internal/database"
	"github.com/convoflow/convoflow/services/auth"
	"github.com/convoflow/convoflow/services/notify"
)

// ErrNeverStarted means that no platform has used the data directory yet.
var ErrNeverStarted = errors.New("no platform was ever started with this data directory")

// CreateAdmin creates an admin of the platform in o.DataDir, or promotes an agent to admin. If the platform is running, it uses
// that platform's PostgreSQL; otherwise it starts PostgreSQL and stops it at the end. args, stdin and stdout are those of
// auth.CreateAdmin. For invalid settings the error is a *conf.Error.
func CreateAdmin(ctx context.Context, o Options, args []string, stdin io.Reader, stdout io.Writer) error {
	p, s, err := beside(ctx, o, "auth")
	if err != nil {
		return err
	}
	defer p.group.Close()
	// Reading a password from a terminal cannot be canceled. If ctx ends, it is abandoned, so that PostgreSQL still stops cleanly.
	done := make(chan error, 1)
	go func() { done <- auth.CreateAdmin(ctx, s.auth, p.tel, args, stdin, stdout) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("interrupted")
	}
}

// Reseal seals everything again that was sealed with SECRET_KEY_PREVIOUS, with SECRET_KEY, in the platform in o.DataDir, which may be
// running with the same settings. It writes to stdout how much that was. For invalid settings the error is a *conf.Error.
func Reseal(ctx context.Context, o Options, stdout io.Writer) error {
	p, s, err := beside(ctx, o, "auth", "notify")
	if err != nil {
		return err
	}
	defer p.group.Close()
	if err := auth.Reseal(ctx, s.auth, p.tel, stdout); err != nil {
		return err
	}
	return notify.Reseal(ctx, s.notify, p.tel, stdout)
}

// beside prepares a command that works beside the platform in o.DataDir, with the databases of these services. The caller must close
// the group.
func beside(ctx context.Context, o Options, services ...string) (_ *Platform, s settings, err error) {
	p, err := prepare(ctx, o)
	if err != nil {
		return nil, s, err
	}
	defer func() {
		if err != nil {
			p.group.Close()
		}
	}()
	stored, err := p.storedSecrets()
	if err != nil {
		return nil, s, err
	}
	p.at.secretKey = stored.SecretKey
	if err := p.findPostgres(ctx, stored, services); err != nil {
		return nil, s, err
	}
	s, err = load(p.options.Environ, p.embedded, p.at)
	return p, s, err
}

// storedSecrets reads the secrets of the data directory. Unlike openSecrets it creates none: a directory without secrets has no
// platform.
func (p *Platform) storedSecrets() (secrets, error) {
	if !p.embedded.postgres && !p.embedded.secret {
		return secrets{}, nil
	}
	stored, err := readSecrets(p.secretsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return stored, fmt.Errorf("%w: %s", ErrNeverStarted, p.options.DataDir)
	}
	return stored, err
}

// findPostgres finds the databases of the services. It starts PostgreSQL only if it is not running, and provisions roles only if there are
// none: provisioning with a different secret would change the passwords of running services.
func (p *Platform) findPostgres(ctx context.Context, stored secrets, services []string) error {
	adminURL := value(p.options.Environ, "DATABASE_URL")
	if p.embedded.postgres {
		url, running, err := database.Running(ctx, p.postgresDir(), databaseName)
		if err != nil {
			return err
		}
		if !running {
			return p.startPostgres(ctx, stored)
		}
		adminURL = url
	}
	for _, service := range services {
		url, err := database.Find(ctx, adminURL, p.secretKey(stored), service)
		switch {
		case errors.Is(err, database.ErrNotProvisioned):
			return p.startPostgres(ctx, stored)
		case errors.Is(err, database.ErrOtherSecret):
			return &conf.Error{Problems: []string{"SECRET_KEY is not the one that the services were started with: set the same one, or use --data-dir with the platform that generated one"}}
		case err != nil:
			return err
		}
		p.at.databases[service] = url
	}
	return nil
}
