package auth

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/convoflow/convoflow/libs/doctor"
	"github.com/convoflow/convoflow/libs/fault"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/run"
	"github.com/convoflow/convoflow/libs/service"
	"github.com/convoflow/convoflow/libs/telemetry"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/key"
	"github.com/convoflow/convoflow/services/auth/internal/store"
)

// Commands are the subcommands of the binary.
func (c Config) Commands() []run.Command {
	return append(service.Commands(Contract(), c, c.ExamineSecret, os.Stdout), []run.Command{
		{
			Name: "admin create", Help: "--email ADDRESS [--name NAME]: make or promote an admin; the password is asked for, or read from stdin",
			Run: func(ctx context.Context, tel telemetry.Set, args []string) error {
				return CreateAdmin(ctx, c, tel, args, os.Stdin, os.Stdout)
			},
		},
		{
			Name: "keys rotate", Help: "let the next signing key sign from now on",
			Run: func(ctx context.Context, tel telemetry.Set, _ []string) error {
				return RotateKeys(ctx, c, tel, os.Stdout)
			},
		},
		{
			Name: "reseal", Help: "seal the signing keys again that SECRET_KEY_PREVIOUS opens, with SECRET_KEY",
			Run: func(ctx context.Context, tel telemetry.Set, _ []string) error { return Reseal(ctx, c, tel, os.Stdout) },
		},
	}...)
}

// ExamineSecret checks SECRET_KEY, which only the database can judge.
func (c Config) ExamineSecret(ctx context.Context, r *doctor.Report) {
	switch err := CheckSecret(ctx, c, telemetry.Nop()); {
	case errors.Is(err, key.ErrSealed):
		r.Fail("SECRET_KEY", "auth does not start without it, and notify does not open the endpoints; see Replace SECRET_KEY in docs/operations.md", "%v", err)
	case err == nil:
		r.OK("SECRET_KEY", "opens the signing keys")
	}
}

// CheckSecret fails if SECRET_KEY and SECRET_KEY_PREVIOUS do not open the signing keys. It changes nothing.
func CheckSecret(ctx context.Context, cfg Config, tel telemetry.Set) error {
	db, err := pg.Open(ctx, cfg.Database, Contract().Name, tel)
	if err != nil {
		return err
	}
	defer db.Close()
	return key.Check(ctx, store.Keys(db), cfg.keys())
}

// CreateAdmin makes an account an active admin, or creates one: --email ADDRESS [--name NAME]. The password of a new account
// comes from stdin: typed without echo on a terminal, else the first line. The running service publishes the event.
func CreateAdmin(ctx context.Context, cfg Config, tel telemetry.Set, args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("admin create", flag.ContinueOnError)
	flags.SetOutput(stdout)
	email := flags.String("email", "", "e-mail address of the admin")
	fullName := flags.String("name", "Admin", "full name of a new account")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read the arguments: %w", err)
	}
	if *email == "" || flags.NArg() > 0 {
		return errors.New("an e-mail address is required: admin create --email ADDRESS [--name NAME]")
	}
	base, err := service.OpenDatabase(ctx, Contract(), cfg, tel)
	if err != nil {
		return err
	}
	defer base.Close()
	agents, err := newAgents(cfg, base, nil)
	if err != nil {
		return err
	}
	unchanged := ", with the password it had"
	admin, err := agents.CreateAdmin(ctx, agent.CreateAdminRequest{
		Email: *email, FullName: *fullName, Password: func() (string, error) {
			unchanged = ""
			return readPassword(stdin, stdout)
		},
	})
	if err != nil {
		return explain(err)
	}
	_, err = fmt.Fprintf(stdout, "%s is an admin%s\n", admin.Email, unchanged)
	return err
}

// readPassword prompts on a terminal, without echo, and reads one line from anything else.
func readPassword(stdin io.Reader, stdout io.Writer) (string, error) {
	if file, ok := stdin.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		_, _ = fmt.Fprint(stdout, "Password: ")
		typed, err := term.ReadPassword(int(file.Fd()))
		_, _ = fmt.Fprintln(stdout)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return string(typed), nil
	}
	line, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// explain adds the problem of each invalid field, as a client would see it.
func explain(err error) error {
	problems := []error{err}
	for _, f := range fault.Of(err).Fields {
		problems = append(problems, fmt.Errorf("%v: %s", f.Loc[len(f.Loc)-1], f.Msg))
	}
	return errors.Join(problems...)
}

// Reseal seals the signing keys again with SECRET_KEY, so that SECRET_KEY_PREVIOUS can be dropped. Running replicas that know
// both secrets do not notice.
func Reseal(ctx context.Context, cfg Config, tel telemetry.Set, stdout io.Writer) error {
	base, keys, err := openKeys(ctx, cfg, tel)
	if err != nil {
		return err
	}
	defer base.Close()
	resealed, all, err := keys.Reseal(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%d of %d signing keys were sealed again\n", resealed, all)
	return err
}

// openKeys opens the signing keys for a command. The caller must close the Base.
func openKeys(ctx context.Context, cfg Config, tel telemetry.Set) (_ *service.Base, _ *key.Ring, err error) {
	base, err := service.OpenDatabase(ctx, Contract(), cfg, tel)
	if err != nil {
		return nil, nil, err
	}
	defer base.CloseIf(&err)
	keys, err := key.Load(ctx, store.Keys(base.DB), cfg.keys(), base.DBClock)
	return base, keys, err
}

// RotateKeys makes the next key the signing key. Running replicas switch to it within key.RefreshEvery; no token is refused
// meanwhile.
func RotateKeys(ctx context.Context, cfg Config, tel telemetry.Set, stdout io.Writer) error {
	base, keys, err := openKeys(ctx, cfg, tel)
	if err != nil {
		return err
	}
	defer base.Close()
	if err := keys.Rotate(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "another key signs within %s\n", key.RefreshEvery)
	return err
}
