package pg

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/convoflow/convoflow/libs/fault"
)

// SQLSTATE codes that this package acts on, from appendix A of the PostgreSQL manual.
const (
	uniqueViolation      = "23505"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	queryCanceled        = "57014"

	undefinedTable        = "42P01"
	undefinedColumn       = "42703"
	insufficientPrivilege = "42501"
)

// Classify turns a database error into a fault. A database that is down, overloaded, not ready for this service or refuses its
// login is Unavailable, with a RetryAfter of one second. Data that it refuses is a Defect: a retry cannot succeed. Faults and all
// other errors are returned unchanged.
func Classify(err error) error {
	var already *fault.Error
	if err == nil || errors.As(err, &already) || errors.Is(err, context.Canceled) {
		return err
	}
	if unavailable(err) {
		return fault.Wrap(err, fault.Unavailable, "database_unavailable", "The database is not available right now, try again").After(time.Second)
	}
	if refused(err) {
		return fault.Wrap(err, fault.Defect, "data_refused", "Something went wrong on our side")
	}
	return err
}

// Unique reports whether err is a violation of the named unique constraint or index.
func Unique(err error, constraint string) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == uniqueViolation && e.ConstraintName == constraint
}

// NoRows reports whether err means that a query returned no row.
func NoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

func conflicted(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == serializationFailure || e.Code == deadlockDetected)
}

// transient reports whether a SQLSTATE is in a class of server trouble: connection exception, insufficient resources (such as
// a full disk), operator intervention or system error.
func transient(code string) bool {
	return slices.Contains([]string{"08", "53", "57", "58"}, class(code))
}

// notReady reports whether a SQLSTATE means that the database is not as this service needs it, which an operator or a migration
// corrects: the role cannot log in, the database or schema does not exist, or the role may not use it.
func notReady(code string) bool {
	return slices.Contains([]string{"28", "3D", "3F"}, class(code)) || slices.Contains([]string{undefinedTable, undefinedColumn, insufficientPrivilege}, code)
}

// refused reports whether the database refuses the data itself: a data exception, a violated constraint or an exceeded limit.
func refused(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && slices.Contains([]string{"22", "23", "54"}, class(e.Code))
}

// class returns the class of a SQLSTATE.
func class(code string) string { return code[:min(len(code), 2)] }

func unavailable(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch e.Code {
		case serializationFailure, deadlockDetected, lockNotAvailable, queryCanceled:
			return true
		}
		return transient(e.Code) || notReady(e.Code) || e.Code == "25P03" || e.Code == "25006" // idle in transaction for too long; read-only standby
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) && !errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "closed pool")
}
