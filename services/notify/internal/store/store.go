// Package store keeps notify's endpoints, deliveries and copies of people in PostgreSQL. It decides nothing.
package store

import (
	"embed"
	"io/fs"

	"github.com/convoflow/convoflow/libs/pg"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the tables of this package.
func Migrations() pg.Migrations {
	sub, _ := fs.Sub(files, "migrations") // the name is right: the embed directive says so
	return pg.Migrations{Name: "notify", FS: sub}
}
