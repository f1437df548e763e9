package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/postgres"
	"dialer/internal/postgres/postgrestest"
)

// openWith opens a database with a parameter in its URL.
func openWith(t *testing.T, address, name, value string) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), with(t, address, name, value))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// with adds a parameter to a URL.
func with(t *testing.T, address, name, value string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func texts(t *testing.T, conn *pgx.Conn, query string, args ...any) []string {
	t.Helper()
	rows, _ := conn.Query(t.Context(), query, args...)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return got
}

// A table that is added to the schema must be given its place. One that is spread needs
// account_id in every unique key, numbers that several servers can give out, and times
// that are not those of the server where the row happens to lie.
func TestEveryTableHasItsPlace(t *testing.T) {
	t.Parallel()
	conn := connect(t, postgrestest.URL(t))
	copied, coordinator := postgres.Undistributed()
	placed := slices.Sorted(slices.Values(slices.Concat(postgres.Distributed(), copied, coordinator)))
	if tables := texts(t, conn, `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname COLLATE "C"`); !slices.Equal(tables, placed) {
		t.Errorf("the schema has the tables\n%q, and placed are\n%q", tables, placed)
	}
	for _, test := range []struct{ what, query string }{
		{"has a unique key without account_id", `
			SELECT indexrelid::regclass::text FROM pg_index i
			 WHERE indrelid = ANY ($1::text[]::regclass[]) AND indisunique
			   AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname = 'account_id' AND a.attnum = ANY (i.indkey))`},
		{"counts in an int", `SELECT attrelid::regclass || '.' || attname FROM pg_attribute WHERE attrelid = ANY ($1::text[]::regclass[]) AND attidentity <> '' AND atttypid <> 'bigint'::regtype`},
		{"has a default that is not the same everywhere", `
			SELECT adrelid::regclass || ': ' || pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = ANY ($1::text[]::regclass[]) AND pg_get_expr(adbin, adrelid) LIKE '%(%'`},
	} {
		for _, name := range texts(t, conn, test.query, postgres.Distributed()) {
			t.Errorf("%s %s", name, test.what)
		}
	}
}

func TestDistributeAgainDoesNothing(t *testing.T) {
	t.Parallel()
	url := partitioned(t)
	conn := connect(t, url)
	parts := func() []string {
		return texts(t, conn, `SELECT oid::text FROM pg_class WHERE relkind IN ('p', 'r') ORDER BY oid`)
	}
	before := parts()
	var done []string
	if err := postgres.Distribute(t.Context(), url, false, func(s string) { done = append(done, s) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(done, postgres.Distribution()) || !slices.Equal(before, parts()) {
		t.Errorf("statements %q; the tables were %q and are %q", done, before, parts())
	}
	if copied := texts(t, conn, `SELECT logicalrelid::text FROM pg_dist_partition WHERE partmethod = 'n'`); !slices.Equal(copied, []string{"suppression"}) {
		t.Errorf("every server has a copy of %q", copied)
	}
}

func TestRowsAreDistributedOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	w := worldIn(t, openWith(t, url, "pool_max_conns", "4"))
	id, _ := w.dial("c", 13800000000, 3)
	w.must(w.db.Release(t.Context(), w.lease))
	postgrestest.StandInForCitus(t, url)
	distribute := func(copyRows bool) error {
		return postgres.Distribute(t.Context(), url, copyRows, func(string) {})
	}
	if err := distribute(false); err == nil || !strings.Contains(err.Error(), "rows already in attempt, batch, contact, import:") {
		t.Errorf("with rows: %v", err)
	}
	w.must(distribute(true))
	w.must(distribute(false)) // what is there lies where it should
	w.count(3, `SELECT count(*) FROM attempt`)
	w.count(1, `SELECT count(DISTINCT tableoid) FROM attempt`)
	if p := w.progress(id); p.Attempts != 3 {
		t.Errorf("progress %+v", p)
	}
}

func TestDistributeIsRefused(t *testing.T) {
	t.Parallel()
	distribute := func(url string) error {
		return postgres.Distribute(t.Context(), url, false, func(s string) { t.Errorf("done: %s", s) })
	}
	url := postgrestest.URL(t)
	w := worldIn(t, openWith(t, url, "pool_max_conns", "4"))
	if err := distribute(url); !errors.Is(err, postgres.ErrNoCitus) {
		t.Errorf("without Citus: %v", err)
	}
	postgrestest.StandInForCitus(t, url)
	if err := distribute(url); err == nil || !strings.Contains(err.Error(), "1 accounts are being dialled: stop the nodes first") {
		t.Errorf("while a node holds an account: %v", err)
	}
	w.must(w.db.Release(t.Context(), w.lease))
	w.exec(`DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`)
	if err := distribute(url); err == nil || !strings.Contains(err.Error(), "run 'dialer migrate' first") {
		t.Errorf("with an older schema: %v", err)
	}
	w.exec(`DROP TABLE goose_db_version`)
	if err := distribute(url); err == nil || !strings.Contains(err.Error(), "the database is empty") {
		t.Errorf("without a schema: %v", err)
	}
}

// A connection that plans for values it does not know would fail in the middle of a
// campaign.
func TestCitusNeedsItsPlans(t *testing.T) {
	t.Parallel()
	url := partitioned(t)
	db, err := postgres.Open(t.Context(), url)
	if err == nil {
		db.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "add plan_cache_mode=auto to its URL") {
		t.Errorf("got %v", err)
	}
	w := worldIn(t, openWith(t, url, "plan_cache_mode", "auto"))
	w.dial("c", 13800000000, 3)
	w.now = w.now.Add(time.Minute)
	w.count(3, `SELECT count(*) FROM attempt`)
}
