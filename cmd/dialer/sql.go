package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"

	"dialer/internal/postgres"
)

type sqlCommand struct {
	Query string `arg:"" optional:"" help:"The query; none: psql on the same database."`
}

func (c sqlCommand) Run(ctx context.Context, a *app) error {
	if c.Query != "" {
		return a.withDB(ctx, func(db *postgres.DB) error { return printQuery(ctx, a, db, c.Query) })
	}
	psql, err := exec.LookPath("psql")
	if err != nil {
		return errors.New("psql is not installed (Debian: apt-get install postgresql-client); 'dialer sql \"SELECT ...\"' works without it")
	}
	where, err := a.findDatabase(ctx)
	if err != nil {
		return err
	}
	defer where.Close()
	// psql handles Ctrl-C itself.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), psql)
	cmd.Env = os.Environ()
	if where.url != "" {
		// In the environment, not in the arguments, which everybody on the machine can read.
		cmd.Env = append(cmd.Env, psqlEnvironment(where.url)...)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	return cmd.Run()
}

// psqlEnvironment turns a URL into libpq's own variables.
func psqlEnvironment(url string) []string {
	parsed, err := postgres.ParseURL(url)
	if err != nil {
		return nil
	}
	cfg := parsed.ConnConfig
	hosts, ports := postgres.Hosts(cfg)
	env := []string{"PGHOST=" + strings.Join(hosts, ","), "PGPORT=" + strings.Join(ports, ","), "PGUSER=" + cfg.User, "PGDATABASE=" + cfg.Database, "PGPASSWORD=" + cfg.Password}
	if len(hosts) > 1 {
		env = append(env, "PGTARGETSESSIONATTRS=read-write")
	}
	if cfg.TLSConfig != nil {
		env = append(env, "PGSSLMODE=require")
	}
	return env
}

// printQuery runs a query in a read-only transaction and prints its answer.
func printQuery(ctx context.Context, a *app, db *postgres.DB, query string) error {
	t := newTable(a.stdout)
	err := db.Ask(ctx, query, func(columns []string) {
		t.rows[0] = columns
	}, func(values []any) {
		for i, v := range values {
			if v == nil {
				values[i] = ""
			}
		}
		t.row(values...)
	})
	if err != nil {
		return err
	}
	return t.flush()
}
