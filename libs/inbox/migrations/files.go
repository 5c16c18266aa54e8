// Package migrations is the schema of the inbox.
package migrations

import "embed"

// Files are the migrations.
//
//go:embed *.sql
var Files embed.FS
