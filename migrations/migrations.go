// Package migrations embeds the schema's history. Files are run in order by
// postgres.Migrate and never edited once released.
package migrations

import "embed"

// FS holds the migrations, named NNNN_what.sql, in the form goose reads.
//
//go:embed *.sql
var FS embed.FS
