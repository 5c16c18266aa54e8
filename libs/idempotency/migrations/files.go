// Package migrations is the schema of stored responses.
package migrations

import "embed"

// Files are the migrations.
//
//go:embed *.sql
var Files embed.FS
