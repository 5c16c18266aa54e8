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
)

// ErrNeverStarted says that the data directory is not that of a platform.
var ErrNeverStarted = errors.New("no platform was ever started with this data directory")

// CreateAdmin makes or promotes an admin of the platform in o.DataDir, which may run meanwhile: then its PostgreSQL is used,
// else one is started for the moment. args, stdin and stdout are those of auth.CreateAdmin. Wrong settings are a *conf.Error.
func CreateAdmin(ctx context.Context, o Options, args []string, stdin io.Reader, stdout io.Writer) error {
	p, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	defer p.group.Close()
	kept, err := p.keptSecrets()
	if err != nil {
		return err
	}
	p.at.secretKey = kept.SecretKey
	if err := p.reachPostgres(ctx, kept); err != nil {
		return err
	}
	s, err := load(p.options.Environ, p.embedded, p.at)
	if err != nil {
		return err
	}
	// Nothing can cancel the wait for a password, so it is left behind when ctx ends, and PostgreSQL still stops in order.
	done := make(chan error, 1)
	go func() { done <- auth.CreateAdmin(ctx, s.auth, p.tel, args, stdin, stdout) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.New("interrupted")
	}
}

// keptSecrets are those of the data directory. It makes none: in an empty directory they would be the secrets of nothing.
func (p *Platform) keptSecrets() (secrets, error) {
	if !p.embedded.postgres && !p.embedded.secret {
		return secrets{}, nil
	}
	kept, err := readSecrets(p.secretsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return kept, fmt.Errorf("%w: %s", ErrNeverStarted, p.options.DataDir)
	}
	return kept, err
}

// reachPostgres finds auth's database as the services have it, and starts or provisions PostgreSQL only where they never did
// or do not run: under another secret that would change the passwords that running services connect with.
func (p *Platform) reachPostgres(ctx context.Context, kept secrets) error {
	adminURL := value(p.options.Environ, "DATABASE_URL")
	if p.embedded.postgres {
		url, running, err := database.Running(ctx, p.postgresDir(), databaseName)
		if err != nil {
			return err
		}
		if !running {
			return p.startPostgres(ctx, kept)
		}
		adminURL = url
	}
	url, err := database.Find(ctx, adminURL, p.secretKey(kept), "auth")
	switch {
	case errors.Is(err, database.ErrNotProvisioned):
		return p.startPostgres(ctx, kept)
	case errors.Is(err, database.ErrOtherSecret):
		return &conf.Error{Problems: []string{"SECRET_KEY is not the one that the services were started with: give the same, or --data-dir of the platform that made one up"}}
	case err != nil:
		return err
	}
	p.at.databases["auth"] = url
	return nil
}
