package postgres_test

import (
	"context"
	"crypto/rand"
	"io/fs"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
	"dialer/migrations"
)

// emptyDatabase makes a database without a schema beside a test's own.
func emptyDatabase(t *testing.T) string {
	t.Helper()
	own := postgrestest.URL(t)
	u, err := url.Parse(own)
	if err != nil {
		t.Fatal(err)
	}
	name := "dialer_empty_" + strings.ToLower(rand.Text()[:16])
	exec := func(ctx context.Context, sql string) {
		conn, err := pgx.Connect(ctx, own)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Error(err)
		}
	}
	exec(t.Context(), "CREATE DATABASE "+name)
	t.Cleanup(func() { exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)") })
	u.Path = "/" + name
	return u.String()
}

func migrationFiles(t *testing.T) int {
	t.Helper()
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil || len(files) < 2 {
		t.Fatalf("migrations: %v, %v", files, err)
	}
	return len(files)
}

func TestMigrateFromEmptyAndAgain(t *testing.T) {
	t.Parallel()
	address := emptyDatabase(t)
	if _, err := postgres.Open(t.Context(), address); err == nil || !strings.Contains(err.Error(), "dialer migrate") {
		t.Errorf("an empty database was opened: %v", err)
	}
	for i, want := range []int{migrationFiles(t), 0} {
		if n, err := postgres.Migrate(t.Context(), address); err != nil || n != want {
			t.Errorf("run %d: %d migrations, %v; want %d", i+1, n, err, want)
		}
	}
	db, err := postgres.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
}

func TestMigrateFourAtOnce(t *testing.T) {
	t.Parallel()
	address := emptyDatabase(t)
	var all sync.WaitGroup
	done := make([]int, 4)
	for i := range done {
		all.Go(func() {
			var err error
			if done[i], err = postgres.Migrate(t.Context(), address); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if sum := done[0] + done[1] + done[2] + done[3]; sum != migrationFiles(t) {
		t.Errorf("migrations run: %v, want %d in all", done, migrationFiles(t))
	}
}

// A ledger of schema 2, whose totals had drifted, has the right ones after schema 3.
func TestSettlementMigrationCountsAnew(t *testing.T) {
	t.Parallel()
	address, conn := migratedTo(t, 2)
	// Contacts: 1 is open, 2 ended, 3 refused, 4 lost, 5 lost and redialled, 6 lost with
	// an outcome and a no, which the old totals took off twice, 7 pending.
	_, err := conn.Exec(t.Context(), `
		BEGIN;
		INSERT INTO account (name, spec, changed_at) VALUES ('acme', '{}', now());
		INSERT INTO campaign (account_id, name, version, changed_at) VALUES (1, 'c', 1, now());
		INSERT INTO campaign_version VALUES (1, 1, '{}', now());
		INSERT INTO import (account_id, campaign_id, file, sha256, rows, contacts, duplicates, rejects, first_n, last_n, imported_at) VALUES (1, 1, 'f', sha256(''), 7, 7, 0, 0, 1, 7, now());
		INSERT INTO contact SELECT 1, 1, n, 13800000000 + n, '{}', n FROM generate_series(1, 7) n;
		INSERT INTO batch VALUES (1, 1, 1, 1, 1, now(), 6, 6, 0);
		INSERT INTO attempt SELECT 1, (1::bigint << 41) | (n::bigint << 10) | 1, 13800000000 + n, now(), now() + interval '1 s', 1, n, 1, 1, 1, 'x' FROM generate_series(1, 6) n;
		INSERT INTO response (account_id, attempt_id, class, counts, sent_at, answered_at, code) SELECT 1, attempt_id, 'refused', false, now(), now(), 'x' FROM attempt WHERE n IN (3, 6);
		INSERT INTO outcome SELECT 1, attempt_id, 'busy', '', '', '', '', '', '', 0, NULL, NULL, NULL, 'push', now() FROM attempt WHERE n IN (2, 6);
		INSERT INTO lost SELECT 1, attempt_id, now(), '' FROM attempt WHERE n IN (4, 5, 6);
		INSERT INTO due SELECT 1, 1, 5, 2, 2, now(), 'lost';
		INSERT INTO progress VALUES (1, 1, 'response:refused', 1, 1, 2), (1, 1, 'outcome:busy', 1, 1, 2), (1, 1, 'lost', 1, 1, 3), (1, 1, 'lost:redialled', 1, 1, 1),
			(1, 1, 'lost:settled:receipt', 1, 1, 1), (1, 1, 'lost:settled:response', 1, 1, 1), (1, 1, 'contradiction:response', 1, 1, 1);
		COMMIT`)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := postgres.Migrate(t.Context(), address); err != nil || n != migrationFiles(t)-2 {
		t.Fatalf("%d migrations, %v; want those after the second", n, err)
	}
	db, err := postgres.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	p, err := db.Progress(t.Context(), 1)
	if err != nil || p.Open != 1 || p.Done != 3 || p.Unknown != 1 || p.Pending != 2 || p.Refused != 2 {
		t.Errorf("%+v, %v", p, err)
	}
	(&world{TB: t, db: db}).balanced(1)
}

// migratedTo makes a database as an older program left it, and a connection to it.
func migratedTo(t *testing.T, version int64) (address string, conn *pgx.Conn) {
	t.Helper()
	address = emptyDatabase(t)
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	cfg, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	sqlDB := stdlib.OpenDB(*cfg)
	defer sqlDB.Close()
	old, err := goose.NewProvider(goose.DialectPostgres, sqlDB, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
	return address, conn
}

// What the leases hold would not be true any more, and nobody would be dialled until a
// person has vouched for the server.
func TestTheQuickerServerNowSaysTheSame(t *testing.T) {
	t.Parallel()
	address, conn := migratedTo(t, 5)
	ask := func() (history, now string) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), `SELECT server_history(), server_now()`).Scan(&history, &now); err != nil {
			t.Fatal(err)
		}
		return history, now
	}
	history, now := ask()
	if n, err := postgres.Migrate(t.Context(), address); err != nil || n != migrationFiles(t)-5 {
		t.Fatalf("%d migrations, %v; want those after the fifth", n, err)
	}
	if h, n := ask(); h != history || n != now {
		t.Errorf("%s and %s; before the migration %s and %s", h, n, history, now)
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	address := postgrestest.URL(t)
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`); err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.Migrate(t.Context(), address); err == nil || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("migrate: got %v", err)
	}
	if _, err := postgres.Open(t.Context(), address); err == nil || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("open: got %v", err)
	}
}

func TestEverythingHasAComment(t *testing.T) {
	t.Parallel()
	db := postgrestest.New(t)
	rows, _ := db.Pool().Query(t.Context(), `
		SELECT n.nspname || '.' || c.relname, coalesce(obj_description(c.oid, 'pg_class'), '')
		  FROM pg_class c
		  JOIN pg_namespace n ON n.oid = c.relnamespace
		 WHERE n.nspname IN ('public', 'report') AND c.relkind IN ('r', 'p', 'v', 'm') AND c.relname <> 'goose_db_version'`)
	seen := 0
	var name, comment string
	_, err := pgx.ForEachRow(rows, []any{&name, &comment}, func() error {
		if seen++; comment == "" {
			t.Errorf("%s has no comment", name)
		}
		return nil
	})
	if err != nil || seen < 25 {
		t.Errorf("%d tables and views, %v", seen, err)
	}
}
