package postgrestest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"dialer/migrations"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func databases(t *testing.T, like string) int {
	t.Helper()
	prepared, err := preparedTemplate()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	err = connect(t, string(prepared.server)).QueryRow(t.Context(), `SELECT count(*) FROM pg_database WHERE datname LIKE $1`, like).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// nameIn is the name of the database at url.
func nameIn(t *testing.T, url string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Database
}

func TestEachTestHasItsOwnMigratedDatabase(t *testing.T) {
	a, b := URL(t), URL(t)
	if a == b {
		t.Fatalf("both are %s", a)
	}
	if _, err := connect(t, a).Exec(t.Context(), `CREATE TABLE only_in_a ()`); err != nil {
		t.Fatal(err)
	}
	var migrated, leaked bool
	err := connect(t, b).QueryRow(t.Context(), `SELECT to_regclass('goose_db_version') IS NOT NULL, to_regclass('only_in_a') IS NOT NULL`).Scan(&migrated, &leaked)
	if err != nil {
		t.Fatal(err)
	}
	if !migrated {
		t.Error("the database has not been migrated")
	}
	if leaked {
		t.Error("one test's table is in another's database")
	}
}

func TestNewIsOpenAndSmall(t *testing.T) {
	db := New(t)
	if got := db.Pool().Config().MaxConns; got != 4 {
		t.Errorf("the pool takes %d connections, want 4", got)
	}
	var one int
	if err := db.Pool().QueryRow(t.Context(), `SELECT 1`).Scan(&one); err != nil {
		t.Fatal(err)
	}
}

func TestDatabaseGoesWithItsTest(t *testing.T) {
	var name string
	var forgotten *pgx.Conn
	t.Run("inner", func(t *testing.T) {
		url := URL(t)
		name = nameIn(t, url)
		if databases(t, name) != 1 {
			t.Fatalf("%s is not there", name)
		}
		var err error
		if forgotten, err = pgx.Connect(t.Context(), url); err != nil {
			t.Fatal(err)
		}
	})
	defer forgotten.Close(context.Background())
	if databases(t, name) != 0 {
		t.Errorf("%s is still there after its test, with a connection left open", name)
	}
}

// Whoever names a server with Citus wants to know that all works there.
func TestAServerWithoutCitusIsNotTakenForOne(t *testing.T) {
	prepared, err := preparedTemplate()
	if err != nil {
		t.Fatal(err)
	}
	plain := template{server: prepared.server}
	const name = "dialer_test_without_citus"
	t.Cleanup(func() {
		if err := plain.drop(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	_, err = plain.clone(t.Context(), name)
	if err == nil || !strings.Contains(err.Error(), "DIALER_TEST_CITUS_URL names a server without Citus") {
		t.Errorf("got %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	var all sync.WaitGroup
	urls := make([]string, 6)
	for i := range urls {
		all.Go(func() { urls[i] = URL(t) })
	}
	all.Wait()
	seen := map[string]bool{}
	for _, u := range urls {
		if u == "" || seen[u] {
			t.Errorf("%q is empty or was given twice", u)
		}
		seen[u] = true
	}
}

func TestTemplateIsBuiltOnceByManyProcesses(t *testing.T) {
	prepared, err := preparedTemplate()
	if err != nil {
		t.Fatal(err)
	}
	// Another hash, as a changed migration would give; each goroutine has its own
	// connection, as a process would.
	files := fstest.MapFS{"0001_made_up.sql": {Data: []byte(nameIn(t, URL(t)))}}
	var all sync.WaitGroup
	got := make([]template, 3)
	for i := range got {
		all.Go(func() {
			var err error
			if got[i], err = prepare(t.Context(), prepared.server, files); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	t.Cleanup(func() {
		if err := prepared.drop(context.Background(), got[0].name); err != nil {
			t.Error(err)
		}
	})
	if got[0].name == prepared.name || got[0] != got[1] || got[1] != got[2] {
		t.Errorf("templates %v beside %s, want one new", got, prepared.name)
	}
	if databases(t, got[0].name) != 1 {
		t.Errorf("%s is not there", got[0].name)
	}
	if n := databases(t, strings.Replace(got[0].name, "template", "building", 1)); n != 0 {
		t.Errorf("%d half-built templates", n)
	}
}

func TestHashChangesWithEveryFile(t *testing.T) {
	of := func(files fstest.MapFS) string {
		t.Helper()
		sum, err := hash(files)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	base := of(fstest.MapFS{"1.sql": {Data: []byte("a")}, "2.sql": {Data: []byte("b")}})
	for what, files := range map[string]fstest.MapFS{
		"content": {"1.sql": {Data: []byte("a")}, "2.sql": {Data: []byte("c")}},
		"name":    {"1.sql": {Data: []byte("a")}, "3.sql": {Data: []byte("b")}},
		"removed": {"1.sql": {Data: []byte("a")}},
		"border":  {"1.sql": {Data: []byte("ab")}, "2.sql": {}},
	} {
		if of(files) == base {
			t.Errorf("another %s gives the same hash", what)
		}
	}
	if sum, err := hash(migrations.FS); err != nil || len(sum) != 16 {
		t.Errorf("hash of the migrations: %q, %v", sum, err)
	}
}

func TestServerAddress(t *testing.T) {
	for _, test := range []struct{ server, want string }{
		{"postgres://dialer@/dialer?host=%2Ftmp%2Fx&port=5432", "postgres://dialer@/db?host=%2Ftmp%2Fx&port=5432"},
		{"postgresql://me:word@127.0.0.1:5433/postgres?sslmode=disable", "postgresql://me:word@127.0.0.1:5433/db?sslmode=disable"},
		{"postgres:///?host=/tmp/x&dbname=other", "postgres:///db?host=%2Ftmp%2Fx"},
	} {
		got, err := server(test.server).database("db")
		if err != nil || got != test.want {
			t.Errorf("%s: got %q, %v; want %q", test.server, got, err, test.want)
		}
	}
	for _, bad := range []string{"host=/tmp/x dbname=postgres password=canary", "postgres://me:canary@%zz/"} {
		if got, err := server(bad).database("db"); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %q, %v; want an error without the password", bad, got, err)
		}
	}
}
