package torture

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dialer/internal/postgres"
)

// table is a table of numbers in a database.
type table struct{ url string }

func newTable(t *testing.T, url string) table {
	t.Helper()
	_, err := connect(t, url).Exec(t.Context(), `CREATE TABLE number (n int PRIMARY KEY)`)
	must(t, err)
	return table{url}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// put commits the numbers from first to last, each by itself.
func (tab table) put(t *testing.T, first, last int) {
	t.Helper()
	conn := connect(t, tab.url)
	for n := first; n <= last; n++ {
		_, err := conn.Exec(t.Context(), `INSERT INTO number VALUES ($1)`, n)
		must(t, err)
	}
	must(t, conn.Close(t.Context()))
}

// count returns how many numbers a server has.
func (tab table) count(t *testing.T, url string) (n int) {
	t.Helper()
	conn := connect(t, url)
	must(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM number`).Scan(&n))
	must(t, conn.Close(t.Context()))
	return n
}

// Whatever is done to the server, it comes back at its address with all that was
// committed, and nodes would take it for durable.
func TestPostgresComesBack(t *testing.T) {
	pg := StartPostgres(t, PostgresOptions{})
	tab := newTable(t, pg.URL())
	want := 0
	for _, fault := range []struct {
		name string
		do   func() error
	}{
		{"fast", func() error { return pg.Stop(Fast) }},
		{"immediate", func() error { return pg.Stop(Immediate) }},
		{"kill -9", pg.Kill9},
		{"kill -9 again", pg.Kill9},
	} {
		tab.put(t, want+1, want+10)
		want += 10
		idle := connect(t, pg.URL())
		if err := fault.do(); err != nil {
			t.Fatalf("%s: %v", fault.name, err)
		}
		if err := idle.Ping(t.Context()); err == nil {
			t.Errorf("%s: a connection lives on", fault.name)
		}
		if conn, err := pgx.Connect(t.Context(), pg.URL()); err == nil {
			conn.Close(t.Context())
			t.Errorf("%s: the server takes connections", fault.name)
		}
		if err := fault.do(); err == nil {
			t.Errorf("%s: done to a server that does not run, without an error", fault.name)
		}
		must(t, pg.Start())
		if got := tab.count(t, pg.URL()); got != want {
			t.Errorf("%s: %d rows, want %d", fault.name, got, want)
		}
	}
	if err := pg.Start(); err == nil {
		t.Error("a running server was started once more")
	}

	_, err := postgres.Migrate(t.Context(), pg.URL())
	must(t, err)
	db, err := postgres.Open(t.Context(), pg.URL())
	must(t, err)
	defer db.Close()
	must(t, db.Durable(t.Context()))
}

func TestPostgresTerminatesBackends(t *testing.T) {
	pg := StartPostgres(t, PostgresOptions{})
	a, b := connect(t, pg.URL()), connect(t, pg.URL())
	n, err := pg.TerminateBackends()
	if err != nil || n != 2 {
		t.Errorf("%d terminated, %v; want 2", n, err)
	}
	for _, conn := range []*pgx.Conn{a, b} {
		if err := conn.Ping(t.Context()); err == nil {
			t.Error("a connection lives on")
		}
	}
}

// The loss that the rollback guard is for: an asynchronous standby is promoted after its
// link broke, and what was committed since is missing.
func TestPromotedStandbyHasLostCommits(t *testing.T) {
	primary := StartPostgres(t, PostgresOptions{})
	tab := newTable(t, primary.URL())
	link := NewProxy(t, "tcp", primary.Addr())
	standby := primary.Standby(t, link.Addr())
	tab.put(t, 1, 100)
	Eventually(t, 10*time.Second, "the standby has followed", func() (bool, string) {
		n := tab.count(t, standby.URL())
		return n == 100, fmt.Sprint(n)
	})

	link.Partition()
	tab.put(t, 101, 600)
	must(t, primary.Kill9())
	must(t, standby.Promote())

	if got := tab.count(t, standby.URL()); got != 100 {
		t.Errorf("%d of 600 commits after the promotion, want the 100 from before the link broke", got)
	}
	table{standby.URL()}.put(t, 101, 101) // it takes writes
	var timeline string
	must(t, connect(t, standby.URL()).QueryRow(t.Context(), `SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)`).Scan(&timeline))
	if timeline != "00000002" {
		t.Errorf("timeline %s after the promotion", timeline)
	}
}

// A copy is a clone when it is started by itself, and an old backup when it is put back.
func TestPostgresColdCopy(t *testing.T) {
	pg := StartPostgres(t, PostgresOptions{})
	tab := newTable(t, pg.URL())
	tab.put(t, 1, 10)
	backup := pg.ColdCopy(t)
	tab.put(t, 11, 20)

	must(t, backup.Start())
	if got := tab.count(t, backup.URL()); got != 10 {
		t.Errorf("the clone has %d rows, want 10", got)
	}
	if err := pg.Restore(backup); err == nil {
		t.Error("data was restored from a server that runs")
	}
	must(t, backup.Stop(Fast))
	must(t, pg.Restore(backup))
	if got := tab.count(t, pg.URL()); got != 10 {
		t.Errorf("%d rows after the restore, want 10", got)
	}
}

// A full disk refuses commits, and takes them again when there is space.
func TestPostgresDiskFull(t *testing.T) {
	if !CanMount() {
		t.Log("only root can limit the size of a file system")
		return
	}
	// A small WAL, so that a segment is not there already when the disk is full.
	pg := StartPostgres(t, PostgresOptions{Memory: "120m", Settings: []string{"min_wal_size=32MB", "max_wal_size=32MB"}})
	tab := newTable(t, pg.URL())
	tab.put(t, 1, 10)
	must(t, pg.Fill())
	conn := connect(t, pg.URL())
	_, err := conn.Exec(t.Context(), `CREATE TABLE big AS SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) n`)
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "53100" {
		t.Errorf("100 MB on a full disk: %v, want disk full", err)
	}
	must(t, pg.Free())
	tab.put(t, 11, 20)
	if got := tab.count(t, pg.URL()); got != 20 {
		t.Errorf("%d rows, want 20", got)
	}
	if err := StartPostgres(t, PostgresOptions{}).Fill(); err == nil {
		t.Error("the machine's own disk was filled")
	}
}
