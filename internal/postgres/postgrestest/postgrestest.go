// Package postgrestest gives a test a database of its own: migrated, empty, and
// gone when the test ends.
//
// The schema is built once in a template database named by a hash of the
// migration files, and each test gets a clone of it, which takes some 40 ms. A
// changed migration makes a new template by itself. The tests of each package
// are a process of their own, so an advisory lock lets one of them build; it
// builds under another name and renames, so that nobody clones half a schema.
//
// The server is the one that DIALER_TEST_DATABASE_URL names (make test starts
// one for all packages), or a scratch server that this process starts at its
// first use and that ends with the process. Without either the test fails: a
// green run must mean that the tests ran.
//
// DIALER_TEST_CITUS_URL names a server with Citus that keeps the shards itself. Then
// the database of each test is distributed. It is made from nothing, because Citus
// is connected to every database that it knows, and such a one cannot be cloned: some
// seconds for each test.
package postgrestest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/pgserver"
	"dialer/internal/postgres"
	"dialer/migrations"
)

// patience bounds every step here: a server that does not answer must show as a
// failure of the test that asked, not as a test run without end.
const patience = time.Minute

// New opens a database of the test's own, migrated and empty. Its pool is small,
// since many tests share a server. The pool is closed and the database dropped
// when the test ends. Any number of tests may call it at once.
//
// Inside a synctest bubble use URL before the bubble and open and close the pool
// in it.
func New(t testing.TB) *postgres.DB {
	t.Helper()
	address, err := url.Parse(URL(t))
	if err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
	q := address.Query()
	q.Set("pool_max_conns", "4")
	address.RawQuery = q.Encode()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	db, err := postgres.Open(ctx, address.String())
	if err != nil {
		t.Fatalf("postgrestest: open the test's database: %v", err)
	}
	t.Cleanup(db.Close)
	return db
}

// URL is the address of a database of the test's own, migrated and empty. It is
// dropped when the test ends, even with connections still open. Any number of
// tests may call it at once, but not from inside a synctest bubble: the first
// call may start a server, which outlives the bubble.
func URL(t testing.TB) string {
	t.Helper()
	template, err := preparedTemplate()
	if err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
	name := "dialer_test_" + strings.ToLower(rand.Text()[:16])
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	t.Cleanup(func() {
		// t.Context has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := template.drop(ctx, name); err != nil {
			t.Errorf("postgrestest: %v", err)
		}
	})
	address, err := template.clone(ctx, name)
	if err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
	return address
}

//go:embed standin.sql
var standIn string

// StandInForCitus gives a database the functions of Citus by which tables are
// distributed. They cut tables into partitions: the same statements keep to one of them
// here that run on one server there.
func StandInForCitus(t testing.TB, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server(url).exec(ctx, standIn); err != nil {
		t.Fatalf("postgrestest: %v", err)
	}
}

// preparedTemplate is made once for the process: the server is its one piece of state.
var preparedTemplate = sync.OnceValues(func() (template, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	if named := os.Getenv("DIALER_TEST_CITUS_URL"); named != "" {
		return template{server: server(named)}, nil
	}
	s, err := findServer(ctx)
	if err != nil {
		return template{}, err
	}
	return prepare(ctx, s, migrations.FS)
})

// server is the address of a server on which databases may be made.
type server string

// findServer returns the server named in the environment, or starts one.
func findServer(ctx context.Context) (server, error) {
	if named := os.Getenv("DIALER_TEST_DATABASE_URL"); named != "" {
		return server(named), nil
	}
	// Never closed: it ends with this process, which nothing here could know of.
	s, err := pgserver.StartScratch(ctx, pgserver.Options{BinDir: os.Getenv("DIALER_PG_BIN")})
	if err != nil {
		return "", fmt.Errorf("no server for the test's database; or set DIALER_TEST_DATABASE_URL to one where databases may be made: %w", err)
	}
	return server(s.URL()), nil
}

// database is the address of another database on the server.
func (s server) database(name string) (string, error) {
	u, err := url.Parse(string(s))
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		// The error of url.Parse would repeat the address, password and all.
		return "", errors.New("DIALER_TEST_DATABASE_URL and DIALER_TEST_CITUS_URL must have the form postgres://USER@HOST/DATABASE")
	}
	u.Path = "/" + name
	q := u.Query()
	q.Del("dbname")
	q.Del("database")
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// connect opens one connection to the server's own database.
func (s server) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, string(s))
	if err != nil {
		return nil, fmt.Errorf("connect to the server of the tests: %w", err)
	}
	return conn, nil
}

// exec runs statements one by one on a connection of their own. CREATE and DROP
// DATABASE cannot be in a transaction.
func (s server) exec(ctx context.Context, statements ...string) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// template is a migrated, empty database to clone.
type template struct {
	server server
	name   string // "": on Citus there is none
}

// clone makes a database and returns its address.
func (t template) clone(ctx context.Context, name string) (string, error) {
	address, err := t.server.database(name)
	if err != nil {
		return "", err
	}
	if t.name == "" {
		return distributed(ctx, t.server, name, address)
	}
	return address, t.server.exec(ctx, `CREATE DATABASE `+quote(name)+` TEMPLATE `+quote(t.name))
}

// distributed makes a migrated database whose tables Citus distributes, and returns the
// address by which a node would know it.
func distributed(ctx context.Context, s server, name, address string) (string, error) {
	if err := s.exec(ctx, `CREATE DATABASE `+quote(name)); err != nil {
		return "", err
	}
	if err := server(address).exec(ctx, `CREATE EXTENSION IF NOT EXISTS citus`); err != nil {
		return "", fmt.Errorf("DIALER_TEST_CITUS_URL names a server without Citus, and nothing is tested on another: %w", err)
	}
	if _, err := postgres.Migrate(ctx, address); err != nil {
		return "", err
	}
	if err := postgres.Distribute(ctx, address, false, func(string) {}); err != nil {
		return "", err
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	q := u.Query()
	q.Set("plan_cache_mode", "auto")
	u.RawQuery = q.Encode()
	return u.String(), nil
}

func (t template) drop(ctx context.Context, name string) error {
	return t.server.exec(ctx, `DROP DATABASE IF EXISTS `+quote(name)+` WITH (FORCE)`)
}

// buildLock is the advisory lock under which templates are built: "dialer" in ASCII.
const buildLock = 0x6469616c6572

// prepare finds the template of these migrations on the server, or builds it.
func prepare(ctx context.Context, s server, files fs.FS) (template, error) {
	sum, err := hash(files)
	if err != nil {
		return template{}, err
	}
	t := template{server: s, name: "dialer_template_" + sum}
	conn, err := s.connect(ctx)
	if err != nil {
		return template{}, err
	}
	// Closing the connection frees the lock, whatever happened.
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(buildLock)); err != nil {
		return template{}, fmt.Errorf("wait for the template database: %w", err)
	}
	var there bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, t.name).Scan(&there)
	if err != nil {
		return template{}, fmt.Errorf("look for the template database: %w", err)
	}
	if there {
		return t, nil
	}
	return t, t.build(ctx)
}

// build makes the template under a scratch name and renames it when it is whole.
func (t template) build(ctx context.Context) error {
	scratch := strings.Replace(t.name, "template", "building", 1)
	if err := t.drop(ctx, scratch); err != nil { // of a run that was killed
		return err
	}
	if err := t.server.exec(ctx, `CREATE DATABASE `+quote(scratch)); err != nil {
		return err
	}
	address, err := t.server.database(scratch)
	if err != nil {
		return err
	}
	if _, err := postgres.Migrate(ctx, address); err != nil {
		return fmt.Errorf("build the template database: %w", err)
	}
	return t.server.exec(ctx,
		// A connection to a template would make each clone fail.
		`ALTER DATABASE `+quote(scratch)+` ALLOW_CONNECTIONS false`,
		`ALTER DATABASE `+quote(scratch)+` RENAME TO `+quote(t.name),
	)
}

// hash is a short name for the content of the migration files.
func hash(files fs.FS) (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		// Lengths keep two files from looking like one.
		fmt.Fprintf(sum, "%d %s %d ", len(path), path, len(text))
		sum.Write(text)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the migration files: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
