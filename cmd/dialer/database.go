package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"dialer/internal/pgserver"
	"dialer/internal/postgres"
)

// database is where the program remembers: a server that the environment names, or a
// private one in the data folder.
type database struct {
	url    string
	server *pgserver.Server // nil: a named one
}

func (d *database) Close() {
	if d.server != nil {
		d.server.Close()
	}
}

// findDatabase resolves the database without connecting to it. A private server is
// started, or joined if another command runs it, and its schema is brought up to date;
// that of a named server is changed by 'dialer migrate' only.
func (a *app) findDatabase(ctx context.Context) (*database, error) {
	if url, named := a.namedDatabase(); named {
		return &database{url: url}, nil
	}
	server, err := pgserver.Start(ctx, pgserver.Options{
		Dir:           a.getenv("DIALER_DATA"),
		BinDir:        a.getenv("DIALER_PG_BIN"),
		AllowDownload: true,
		Log:           a.logger(slog.LevelWarn),
	})
	if err != nil {
		return nil, err
	}
	if !server.Joined() {
		fmt.Fprintf(a.stderr, "private Postgres %s in %s (DATABASE_URL names no other)\n", server.Version(), server.Dir())
	}
	if _, err := postgres.Migrate(ctx, server.URL()); err != nil {
		server.Close()
		return nil, err
	}
	return &database{url: server.URL(), server: server}, nil
}

// namedDatabase returns what DATABASE_URL or libpq's own variables say.
func (a *app) namedDatabase() (string, bool) {
	if url := a.getenv("DATABASE_URL"); url != "" {
		return url, true
	}
	for _, name := range []string{"PGHOST", "PGDATABASE", "PGSERVICE"} {
		if a.getenv(name) != "" {
			return "", true
		}
	}
	return "", false
}

// withDB opens the database for one command.
func (a *app) withDB(ctx context.Context, f func(db *postgres.DB) error) (err error) {
	where, err := a.findDatabase(ctx)
	if err != nil {
		return err
	}
	defer where.Close()
	db, err := postgres.Open(ctx, where.url)
	if err != nil {
		return err
	}
	defer db.Close()
	return f(db)
}

type migrateCommand struct {
	PgBouncer bool `name:"pgbouncer" help:"Also give this role the settings that nodes behind PgBouncer in transaction mode need and that it does not pass on."`
}

func (c migrateCommand) Run(ctx context.Context, a *app) error {
	url, named := a.namedDatabase()
	if !named && c.PgBouncer {
		return usageError{errors.New("migrate: --pgbouncer is for a database that DATABASE_URL names; the private one is not behind PgBouncer")}
	}
	if !named {
		return a.withDB(ctx, func(*postgres.DB) error {
			fmt.Fprintln(a.stdout, "the private database is up to date")
			return nil
		})
	}
	n, err := postgres.Migrate(ctx, url)
	if err != nil {
		return err
	}
	if c.PgBouncer {
		if err := postgres.SettleRole(ctx, url); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout, "the role has the settings that PgBouncer does not pass on: nodes may use pgbouncer=transaction")
	}
	if n == 0 {
		fmt.Fprintln(a.stdout, "the database is up to date")
		return nil
	}
	fmt.Fprintf(a.stdout, "%d migrations applied\n", n)
	return nil
}

type configCommand struct{}

func (configCommand) Run(ctx context.Context, a *app) error {
	t := newTable(a.stdout, "setting", "value", "meaning")
	for _, s := range settings {
		value := a.getenv(s.name)
		switch {
		case value == "":
			value = "(default: " + s.zero + ")"
		case s.secret:
			value = "***"
		}
		t.row(s.name, value, s.meaning)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if _, named := a.namedDatabase(); named {
		return nil
	}
	found, err := pgserver.Find(ctx, pgserver.Options{Dir: a.getenv("DIALER_DATA"), BinDir: a.getenv("DIALER_PG_BIN")})
	if missing, ok := errors.AsType[*pgserver.NotFoundError](err); ok {
		fmt.Fprintln(a.stdout, missing)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "private Postgres:", found)
	return nil
}

// settings lists the environment variables that the program itself reads; account
// files name others for their secrets.
var settings = []struct {
	name, zero, meaning string
	secret              bool
}{
	{"DATABASE_URL", "a private Postgres", "the database, as a libpq URL", true},
	{"DIALER_DATA", "./.dialer or the state folder", "where a private Postgres keeps its data", false},
	{"DIALER_PG_BIN", "the newest installed", "folder with initdb and postgres for a private Postgres", false},
	{"DIALER_LISTEN", "127.0.0.1:8090", "where 'dialer serve' takes receipts", false},
	{"DIALER_PROXY", "none; HTTP_PROXY and its like are ignored", "HTTP proxy to the platform", true},
	{"DIALER_STATE", "'state' in the folder of DIALER_DATA", "local folder for receipts that wait for the database", false},
	{"DIALER_NODE", "the host's name", "the node's name in logs and tables", false},
}
