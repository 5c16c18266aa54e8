package platform

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/convoflow/convoflow/libs/clock"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/services/auth"
	"github.com/convoflow/convoflow/services/calls"
)

// The files of a backup. recordingsDir is absent if the recordings were not copied, secretsName if the secrets are set elsewhere.
const (
	aboutName     = "backup.json"
	dumpName      = "database.dump" // of pg_dump, in its custom format
	manifestName  = "recordings.jsonl"
	recordingsDir = "recordings"
)

// replayMargin is how long before the backup a replay begins. Events that were published before the dump and handled after it are
// within it; the inbox ignores the others.
const replayMargin = 10 * time.Minute

// About says what a backup contains.
type About struct {
	Version    string           `json:"version"` // of the program
	CreatedAt  time.Time        `json:"created_at"`
	ReplayFrom time.Time        `json:"replay_from"` // for convoflow events replay, after a restore
	DumpSHA256 string           `json:"dump_sha256"`
	SecretMark string           `json:"secret_mark"` // identifies SECRET_KEY; nothing can be read from it
	Recordings calls.Recordings `json:"recordings"`
}

// Backup writes a backup of the platform in o.DataDir, which may be running, into dir, which must not exist: the tables of all services
// at one moment, and the manifest of the recordings; with copies, the recordings too. Generated secrets are in it as well, so it is
// as secret as the data directory. What is in Kafka is not in it: see ReplayFrom.
func Backup(ctx context.Context, o Options, dir string, copies bool) (a About, err error) {
	p, s, err := beside(ctx, o, serviceNames...)
	if err != nil {
		return a, err
	}
	defer p.group.Close()
	adminURL, err := p.adminURL(ctx)
	if err != nil {
		return a, err
	}
	// A restore asks for the secret of the backup: it must be the one that opens what is in the dump.
	if err := auth.CheckSecret(ctx, s.auth, p.tel); err != nil {
		return a, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return a, fmt.Errorf("create the directory of the backup, which must be a new one: %w", err)
	}
	now := clock.System{}.Now()
	a = About{Version: run.Version(), CreatedAt: now, ReplayFrom: now.Add(-replayMargin), SecretMark: secretMark(s.auth.SecretKey.Reveal())}
	arguments := []string{"--format=custom", "--file=" + filepath.Join(dir, dumpName)}
	for _, service := range serviceNames {
		arguments = append(arguments, "--schema="+service)
	}
	dump, err := newClient(ctx, "pg_dump", adminURL, arguments...)
	if err != nil {
		return a, err
	}
	if err := dump.failed(dump.Run()); err != nil {
		return a, err
	}
	if a.DumpSHA256, err = fileSum(filepath.Join(dir, dumpName)); err != nil {
		return a, err
	}
	// After the dump: a recording of which the dump knows is in the bucket, unless its call was deleted meanwhile.
	to := ""
	if copies {
		to = filepath.Join(dir, recordingsDir)
	}
	manifest, err := os.OpenFile(filepath.Join(dir, manifestName), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return a, fmt.Errorf("create the manifest of the recordings: %w", err)
	}
	a.Recordings, err = calls.BackUpRecordings(ctx, s.calls, manifest, to)
	if err := errors.Join(err, manifest.Sync(), manifest.Close()); err != nil {
		return a, err
	}
	if raw, err := os.ReadFile(p.secretsFile()); err == nil {
		if err := os.WriteFile(filepath.Join(dir, secretsName), raw, 0o600); err != nil { //nolint:gosec // the operator names the directory
			return a, fmt.Errorf("copy the secrets: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return a, fmt.Errorf("read the secrets: %w", err)
	}
	raw, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return a, err
	}
	return a, os.WriteFile(filepath.Join(dir, aboutName), append(raw, '\n'), 0o600) // last: without it, the backup is not complete
}

// Restore replaces the data of the platform in o.DataDir, which must be stopped, by a backup, and calls missing for each recording that
// is in neither. If there is data, it fails unless overwrite is true. It leaves Kafka as it is.
func Restore(ctx context.Context, o Options, dir string, overwrite bool, missing func(key string)) (a About, err error) {
	if a, err = readAbout(dir); err != nil {
		return a, err
	}
	p, err := prepare(ctx, o)
	if err != nil {
		return a, err
	}
	defer p.group.Close()
	if err := p.restoreSecrets(dir); err != nil {
		return a, err
	}
	if p.embedded.postgres {
		if _, err := p.adminURL(ctx); err == nil {
			return a, ErrRunning
		}
	}
	if err := os.MkdirAll(p.at.recordings, 0o700); err != nil {
		return a, fmt.Errorf("create the data directory: %w", err)
	}
	stored, err := p.storedSecrets()
	if err != nil {
		return a, err
	}
	if secretMark(p.secretKey(stored)) != a.SecretMark {
		return a, errors.New("SECRET_KEY is not that of the backup: without it, the signing keys and the webhook secrets cannot be opened")
	}
	if err := p.startPostgres(ctx, stored); err != nil { // creates the roles, which own the tables
		return a, err
	}
	adminURL, err := p.adminURL(ctx)
	if err != nil {
		return a, err
	}
	if err := mayReplace(ctx, adminURL, overwrite); err != nil {
		return a, err
	}
	if err := replaceSchemas(ctx, adminURL, filepath.Join(dir, dumpName)); err != nil {
		return a, err
	}
	p.at.secretKey = p.secretKey(stored)
	if a.Recordings, err = p.restoreRecordings(ctx, dir, missing); err != nil {
		return a, fmt.Errorf("the tables are restored, but not all recordings: restore again, with --overwrite: %w", err)
	}
	return a, nil
}

func (p *Platform) restoreRecordings(ctx context.Context, dir string, missing func(key string)) (n calls.Recordings, err error) {
	s, err := load(p.options.Environ, p.embedded, p.at)
	if err != nil {
		return n, err
	}
	manifest, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return n, fmt.Errorf("read the manifest of the recordings: %w", err)
	}
	defer func() { _ = manifest.Close() }()
	return calls.RestoreRecordings(ctx, s.calls, manifest, filepath.Join(dir, recordingsDir), missing)
}

func readAbout(dir string) (a About, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, aboutName))
	if err == nil {
		err = json.Unmarshal(raw, &a)
	}
	if err != nil {
		return a, fmt.Errorf("%s is not a complete backup: %w", dir, err)
	}
	sum, err := fileSum(filepath.Join(dir, dumpName))
	if err == nil && sum != a.DumpSHA256 {
		err = errors.New("database.dump is damaged: its SHA-256 is not that of backup.json")
	}
	return a, err
}

// restoreSecrets copies generated secrets, if the data directory has none.
func (p *Platform) restoreSecrets(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, secretsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the secrets of the backup: %w", err)
	}
	if _, err := os.Stat(p.secretsFile()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var s secrets
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("read the secrets of the backup: %w", err)
	}
	if err := os.MkdirAll(p.options.DataDir, 0o755); err != nil { // PostgreSQL may run as another user in a subdirectory
		return fmt.Errorf("create the data directory: %w", err)
	}
	return writeSecrets(p.secretsFile(), s)
}

// mayReplace fails if services are connected, or if there are tables that may not be overwritten.
func mayReplace(ctx context.Context, adminURL string, overwrite bool) error {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var connected, tables int
	err = conn.QueryRow(ctx, `select (select count(*) from pg_stat_activity where datname = current_database() and application_name like 'convoflow-%'),
		(select count(*) from pg_tables where schemaname = any ($1))`, serviceNames).Scan(&connected, &tables)
	switch {
	case err != nil:
		return fmt.Errorf("look at the database: %w", err)
	case connected > 0:
		return fmt.Errorf("%w: services have %d connections to the database, stop all of them", ErrRunning, connected)
	case tables > 0 && !overwrite:
		return fmt.Errorf("the database has data already, %d tables: --overwrite replaces it", tables)
	}
	return nil
}

// replaceSchemas replaces the schemas of the services by those of a dump, in one transaction: if it fails or the machine dies, the old
// data is there, or all of the new data, if only the answer to the commit was lost. The error says which.
func replaceSchemas(ctx context.Context, adminURL, dump string) error {
	committing, err := runReplacement(ctx, adminURL, dump)
	var exit *exec.ExitError
	refused := errors.As(err, &exit) && exit.ExitCode() == psqlRefused
	switch {
	case err == nil:
		return nil
	case committing && !refused:
		return fmt.Errorf("it is not known whether the tables were restored, because the answer of the database was lost: restore again, with --overwrite, before you start: %w", err)
	default:
		return fmt.Errorf("nothing was restored, the database is as it was: %w", err)
	}
}

// psqlRefused is the exit code of psql after the database has refused a statement, with ON_ERROR_STOP.
const psqlRefused = 3

// runReplacement does it. committing is true if psql was told to commit. pg_restore writes the dump as SQL, because its own transaction
// cannot drop what the dump does not know.
func runReplacement(ctx context.Context, adminURL, dump string) (committing bool, err error) {
	script, err := newClient(ctx, "pg_restore", "", "--file=-", dump)
	if err != nil {
		return false, err
	}
	sql, err := newClient(ctx, "psql", adminURL, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
	if err != nil {
		return false, err
	}
	input, err := sql.StdinPipe()
	if err != nil {
		return false, err
	}
	if err := sql.Start(); err != nil {
		return false, err
	}
	statements := "set client_min_messages = warning;\nbegin;\n" // without a notice for each table
	for _, service := range serviceNames {
		statements += "drop schema if exists " + pgx.Identifier{service}.Sanitize() + " cascade;\n"
	}
	_, err = io.WriteString(input, statements)
	script.Stdout = input
	if err = errors.Join(err, script.failed(script.Run())); err == nil {
		committing = true
		_, err = io.WriteString(input, "commit;\n") // without it, psql's end is a rollback
	}
	err = errors.Join(err, input.Close())
	return committing, errors.Join(sql.failed(sql.Wait()), err)
}

// client is a client program of PostgreSQL.
type client struct {
	*exec.Cmd
	stderr strings.Builder
}

// newClient returns a client program that has not been started, for a database if the URL is not empty. The password is in the
// environment: arguments can be read by every user of the machine.
func newClient(ctx context.Context, program, databaseURL string, arguments ...string) (*client, error) {
	if bin := os.Getenv("POSTGRES_BIN"); bin != "" {
		program = filepath.Join(bin, program)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("install the client programs of PostgreSQL (`apt-get install postgresql-client`), of the server's version or newer: %w", err)
	}
	c := &client{Cmd: exec.CommandContext(ctx, path, arguments...)}
	c.Env, c.Stderr = os.Environ(), &c.stderr
	if databaseURL == "" {
		return c, nil
	}
	u, err := url.Parse(databaseURL)
	if err != nil {
		return nil, errors.New("DATABASE_URL is not a URL")
	}
	password, _ := u.User.Password()
	u.User = url.User(u.User.Username())
	c.Args, c.Env = append(c.Args, "--no-password", "--dbname="+u.String()), append(c.Env, "PGPASSWORD="+password)
	return c, nil
}

// failed adds what the program has said to its error.
func (c *client) failed(err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", filepath.Base(c.Path), err, strings.TrimSpace(c.stderr.String()))
	}
	return err
}

// secretMark identifies a secret without telling anything about it.
func secretMark(secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("convoflow backup"))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

func fileSum(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
