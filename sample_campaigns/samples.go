// Package samples holds the sample campaigns, so that 'dialer demo' needs no files.
// Their numbers are made up and may belong to somebody: they carry sample: true, and
// a live account refuses them.
package samples

import "embed"

// FS holds account.yaml and, for each campaign, its YAML and CSV file.
//
//go:embed *.yaml *.csv
var FS embed.FS

// Campaigns are the names of the campaigns, in the order to show them.
var Campaigns = []string{"welcome", "renewal", "survey"}
