package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed is the design of the program as imports: what each package may use of ours
// and of others. A package that is not named here needs a line, and a reason.
var allowed = map[string]struct{ ours, others []string }{
	"internal/campaign":  {nil, []string{"github.com/gocarina/gocsv", "github.com/robfig/cron/v3", "github.com/xuri/excelize/v2", "go.yaml.in/yaml/v3", "golang.org/x/text"}},
	"internal/limiter":   {nil, []string{"golang.org/x/time"}},
	"internal/failpoint": {nil, nil},
	"internal/journal":   {[]string{"internal/campaign"}, nil},
	"internal/smartcall": {[]string{"internal/failpoint"}, []string{"github.com/aliyun/credentials-go", "golang.org/x/net/proxy"}},
	"internal/simulator": {nil, nil},
	"internal/pgserver":  {nil, []string{"github.com/jackc/pgx/v5"}},
	"migrations":         {nil, nil},
	"sample_campaigns":   {nil, nil},
	"internal/postgres":  {[]string{"internal/campaign", "internal/journal", "migrations"}, []string{"github.com/jackc/pgx/v5", "github.com/pressly/goose/v3"}},
	"internal/dialer":    {[]string{"internal/campaign", "internal/failpoint", "internal/journal", "internal/limiter", "internal/smartcall", "internal/postgres"}, []string{"golang.org/x/sync"}},
	"cmd/dialer": {
		[]string{"internal/campaign", "internal/failpoint", "internal/journal", "internal/limiter", "internal/smartcall", "internal/simulator", "internal/pgserver", "internal/postgres", "internal/dialer", "migrations", "sample_campaigns"},
		[]string{"github.com/alecthomas/kong", "github.com/jackc/pgx/v5", "golang.org/x/sync", "golang.org/x/term", "golang.org/x/text"},
	},
	// For tests and for making the samples; nothing of the program may use them.
	"internal/postgres/postgrestest": {[]string{"internal/pgserver", "internal/postgres", "migrations"}, []string{"github.com/jackc/pgx/v5"}},
	"internal/torture":               {[]string{"internal/campaign", "internal/failpoint", "internal/pgserver", "internal/postgres", "internal/simulator"}, []string{"github.com/jackc/pgx/v5"}},
	"internal/pgserver/withpg":       {[]string{"internal/pgserver"}, nil},
	"internal/smartcall/sdktest":     {nil, nil},
	"internal/campaign/phonetest":    {nil, nil},
	"sample_campaigns/gen":           {nil, []string{"golang.org/x/text"}},
}

func TestImports(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Standard,Imports,Module", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Logf("%s", exit.Stderr)
		}
		t.Fatal(err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
			Module     struct{ Path string }
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		name := strings.TrimPrefix(pkg.ImportPath, pkg.Module.Path+"/")
		may, ok := allowed[name]
		if !ok {
			t.Errorf("package %s is in no line of the table", name)
			continue
		}
		for _, imported := range pkg.Imports {
			if own, ok := strings.CutPrefix(imported, pkg.Module.Path+"/"); ok {
				if !slices.Contains(may.ours, own) {
					t.Errorf("%s must not import %s", name, own)
				}
				continue
			}
			first, _, _ := strings.Cut(imported, "/")
			if strings.Contains(first, ".") && !slices.ContainsFunc(may.others, func(module string) bool {
				return imported == module || strings.HasPrefix(imported, module+"/")
			}) {
				t.Errorf("%s must not import %s", name, imported)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d packages were looked at", seen)
	}
}
