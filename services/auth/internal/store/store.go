// Package store keeps agents, sessions and sealed signing keys in PostgreSQL. It owns the tables of the schema auth and
// writes each change of an agent together with its events.
package store

import (
	"embed"
	"io/fs"

	"github.com/convoflow/convoflow/libs/pg"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables.
func Migrations() pg.Migrations {
	sub, _ := fs.Sub(files, "migrations") // the name is right: the embed directive says so
	return pg.Migrations{Name: "auth", FS: sub}
}
