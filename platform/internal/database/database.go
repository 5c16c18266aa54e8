// Package database provisions one PostgreSQL database: each service gets its own role and schema, so that no service can access
// another's tables. It owns the roles named <database>_<service> and refuses to change any other.
package database

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs.
const (
	insufficientPrivilege = "42501" // the role may not create roles or schemas
	invalidPassword       = "28P01"
	cannotConnectNow      = "57P03" // the server is starting or stopping
)

var (
	// ErrNotAdministrator means that the URL's role may not create roles, so the services must share it.
	ErrNotAdministrator = errors.New("the role of DATABASE_URL may not create roles")
	// ErrNotProvisioned means that a service has no role yet.
	ErrNotProvisioned = errors.New("the service has no database role")
	// ErrOtherSecret means that a service's password was derived from a different secret.
	ErrOtherSecret = errors.New("the service's database role was created with a different secret")
)

// Create creates a database unless it exists. adminURL may name any database of the server.
func Create(ctx context.Context, adminURL, name string) error {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var exists bool
	if err := conn.QueryRow(ctx, `select exists (select from pg_database where datname = $1)`, name).Scan(&exists); err != nil {
		return fmt.Errorf("find database %s: %w", name, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// Provision creates a role and a schema per service in the database of adminURL, and returns each service's URL. The passwords
// are derived from secret, so they are the same at the next start and are not stored. It fails with ErrNotAdministrator.
func Provision(ctx context.Context, adminURL, secret string, services []string) (map[string]string, error) {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	database := conn.Config().Database
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin a transaction: %w", err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	urls := map[string]string{}
	for _, service := range services {
		role := database + "_" + service
		password := derive(secret, role)
		if err := provision(ctx, tx, role, password, service); err != nil {
			return nil, fmt.Errorf("provision %s: %w", service, err)
		}
		if urls[service], err = withUser(adminURL, role, password); err != nil {
			return nil, err
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	return urls, nil
}

// Find returns the URL of a service that has been provisioned. It changes nothing, so it is safe while services are running. It
// fails with ErrNotProvisioned or ErrOtherSecret.
func Find(ctx context.Context, adminURL, secret, service string) (string, error) {
	admin, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return "", fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = admin.Close(ctx) }()
	role := admin.Config().Database + "_" + service
	var exists bool
	if err := admin.QueryRow(ctx, `select exists (select from pg_roles where rolname = $1)`, role).Scan(&exists); err != nil {
		return "", fmt.Errorf("find role %s: %w", role, err)
	}
	if !exists {
		return "", ErrNotProvisioned
	}
	own, err := withUser(adminURL, role, derive(secret, role))
	if err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, own)
	if isCode(err, invalidPassword) {
		return "", ErrOtherSecret
	}
	if err != nil {
		return "", fmt.Errorf("connect to PostgreSQL as %s: %w", role, err)
	}
	return own, conn.Close(ctx)
}

func isCode(err error, sqlstate string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == sqlstate
}

func provision(ctx context.Context, tx pgx.Tx, role, password, schema string) error {
	var roleExists, schemaExists bool
	err := tx.QueryRow(ctx, `select exists (select from pg_roles where rolname = $1), exists (select from pg_namespace where nspname = $2)`, role, schema).Scan(&roleExists, &schemaExists)
	if err != nil {
		return err
	}
	id := pgx.Identifier{role}.Sanitize()
	verb := "create"
	if roleExists {
		verb = "alter"
	}
	statements := []string{fmt.Sprintf("%s role %s login password '%s'", verb, id, password)}
	if !schemaExists {
		// The administrator of a managed PostgreSQL is not a superuser, and must be a member of the role to give it a schema.
		statements = append(statements,
			"grant "+id+" to current_user",
			fmt.Sprintf("create schema %s authorization %s", pgx.Identifier{schema}.Sanitize(), id))
	}
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			if isCode(err, insufficientPrivilege) {
				return ErrNotAdministrator
			}
			return err
		}
	}
	return nil
}

// derive returns a role's password. It is hexadecimal, so it needs no quoting.
func derive(secret, role string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("database role " + role))
	return hex.EncodeToString(mac.Sum(nil))
}

func withUser(adminURL, role, password string) (string, error) {
	u, err := url.Parse(adminURL)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return "", errors.New("DATABASE_URL must be a postgres:// URL")
	}
	u.User = url.UserPassword(role, password)
	return u.String(), nil
}
