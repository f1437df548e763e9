package postgres_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
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

func TestMigrateFromEmptyAndAgain(t *testing.T) {
	t.Parallel()
	address := emptyDatabase(t)
	if _, err := postgres.Open(t.Context(), address); err == nil || !strings.Contains(err.Error(), "dialer migrate") {
		t.Errorf("an empty database was opened: %v", err)
	}
	for i, want := range []int{3, 0} {
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
	if sum := done[0] + done[1] + done[2] + done[3]; sum != 3 {
		t.Errorf("migrations run: %v, want 3 in all", done)
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
