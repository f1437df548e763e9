package torture

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// commitProxy is a proxy to a server with a table of numbers.
func commitProxy(t *testing.T) (*CommitProxy, table) {
	t.Helper()
	pg := StartPostgres(t, PostgresOptions{})
	return NewCommitProxy(t, "unix", pg.Socket(), 1), newTable(t, pg.URL())
}

// broken tells whether a statement failed because its connection broke. pgx has several
// errors for that.
func broken(conn *pgx.Conn, err error) bool { return err != nil && conn.IsClosed() }

// However a transaction is written, its reply is lost after it is committed.
func TestCommitIsDoneAndItsReplyLost(t *testing.T) {
	p, tab := commitProxy(t)
	for want, test := range []struct {
		name   string
		commit func(context.Context, *pgx.Conn) error
	}{
		{"a statement", func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `INSERT INTO number VALUES ($1)`, 1)
			return err
		}},
		{"a statement prepared before", func(ctx context.Context, conn *pgx.Conn) error {
			if _, err := conn.Prepare(ctx, "mine", `INSERT INTO number VALUES ($1)`); err != nil {
				return errors.New("prepare: " + err.Error())
			}
			_, err := conn.Exec(ctx, "mine", 2)
			return err
		}},
		{"a simple query", func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `INSERT INTO number VALUES (3)`, pgx.QueryExecModeSimpleProtocol)
			return err
		}},
		{"a SELECT that writes", func(ctx context.Context, conn *pgx.Conn) error {
			rows, _ := conn.Query(ctx, `WITH made AS (INSERT INTO number VALUES ($1) RETURNING n) SELECT n FROM made`, 4)
			_, err := pgx.CollectRows(rows, pgx.RowTo[int])
			return err
		}},
		{"COPY", func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.CopyFrom(ctx, pgx.Identifier{"number"}, []string{"n"}, pgx.CopyFromRows([][]any{{5}}))
			return err
		}},
		{"a transaction", func(ctx context.Context, conn *pgx.Conn) error {
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `INSERT INTO number VALUES ($1)`, 6)
				if err != nil {
					return errors.New("before the commit: " + err.Error())
				}
				return nil
			})
		}},
		{"a batch", func(ctx context.Context, conn *pgx.Conn) error {
			var b pgx.Batch
			b.Queue(`SELECT 1`)
			b.Queue(`INSERT INTO number VALUES ($1)`, 7)
			return conn.SendBatch(ctx, &b).Close()
		}},
	} {
		loss := &Loss{Every: 1, Match: Holding("number")}
		p.Lose(loss)
		conn := connect(t, p.URL())
		if err := test.commit(t.Context(), conn); !broken(conn, err) {
			t.Errorf("%s: got %v, want a broken connection", test.name, err)
		}
		if got := tab.count(t, tab.url); got != want+1 {
			t.Errorf("%s: %d rows are committed, want %d", test.name, got, want+1)
		}
		if seen, lost := p.Lost(loss); seen != 1 || lost != 1 {
			t.Errorf("%s: %d of %d lost, want 1 of 1", test.name, lost, seen)
		}
	}
}

// What is not a commit passes: reads, errors, rollbacks, and what no Loss matches.
func TestCommitProxyLosesNothingElse(t *testing.T) {
	p, tab := commitProxy(t)
	loss := &Loss{Every: 1, Match: Holding("number")}
	p.Lose(loss)
	conn := connect(t, p.URL())
	for range 3 {
		var n int
		must(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM number WHERE n > $1`, 0).Scan(&n))
		if _, err := conn.Exec(t.Context(), `INSERT INTO number VALUES (1/$1)`, 0); err == nil || broken(conn, err) {
			t.Fatalf("an INSERT that fails: %v", err)
		}
		tx, err := conn.Begin(t.Context())
		must(t, err)
		_, err = tx.Exec(t.Context(), `INSERT INTO number VALUES ($1)`, 1)
		must(t, err)
		must(t, tx.Rollback(t.Context()))
		_, err = conn.Exec(t.Context(), `CREATE TEMPORARY TABLE IF NOT EXISTS other (n int)`)
		must(t, err)
		// More than a buffer holds, on the way there and back.
		rows, _ := conn.Query(t.Context(), `SELECT $1 || n FROM generate_series(1, 20) n`, strings.Repeat("x", 100_000))
		if all, err := pgx.CollectRows(rows, func(pgx.CollectableRow) (struct{}, error) { return struct{}{}, nil }); err != nil || len(all) != 20 {
			t.Fatalf("%d rows, %v", len(all), err)
		}
	}
	// A transaction that failed ends in ROLLBACK, whatever was asked for.
	err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO number VALUES (1/$1)`, 0)
		if err == nil {
			t.Error("1/0 was stored")
		}
		return nil
	})
	if err == nil || broken(conn, err) {
		t.Errorf("a failed transaction ended with %v", err)
	}
	if seen, _ := p.Lost(loss); seen != 0 || p.Stats().Cut != 0 || tab.count(t, tab.url) != 0 {
		t.Errorf("%d commits seen, %d connections cut, want none", seen, p.Stats().Cut)
	}
}

// One of every so many is lost, and not more than the most.
func TestCommitsAreLostNowAndThen(t *testing.T) {
	p, tab := commitProxy(t)
	loss := &Loss{Every: 5, Most: 15, Match: Holding("INTO number")}
	p.Lose(loss)
	conn := connect(t, p.URL())
	var failed []int
	for n := range 200 {
		_, err := conn.Exec(t.Context(), `INSERT INTO number VALUES ($1)`, n)
		if err != nil {
			failed = append(failed, n)
			conn = connect(t, p.URL())
		}
	}
	seen, lost := p.Lost(loss)
	if seen != 200 || lost != 15 || len(failed) != 15 {
		t.Errorf("%d lost of %d, errors at %v; want 15 of 200", lost, seen, failed)
	}
	for i, n := range failed {
		if n/5 != i {
			t.Errorf("errors at %v, want one of every five", failed)
			break
		}
	}
	if got := tab.count(t, tab.url); got != 200 {
		t.Errorf("%d rows, want all 200", got)
	}
}

// A connection that breaks while the server commits leaves everything open: here the
// server waits for another transaction, and commits after the client was told that it is gone.
func TestConnectionBreaksDuringCommit(t *testing.T) {
	p, tab := commitProxy(t)
	other := connect(t, tab.url)
	first, err := other.Begin(t.Context())
	must(t, err)
	_, err = first.Exec(t.Context(), `INSERT INTO number VALUES (1)`)
	must(t, err)

	loss := &Loss{Every: 1, When: DuringCommit, Match: Holding("INTO number")}
	p.Lose(loss)
	conn := connect(t, p.URL())
	p.Refuse() // pgx asks the server, on a new connection, to cancel what it heard no end of
	if _, err := conn.Exec(t.Context(), `INSERT INTO number VALUES ($1)`, 1); !broken(conn, err) {
		t.Errorf("got %v, want a broken connection", err)
	}
	must(t, first.Rollback(t.Context()))
	Eventually(t, 10*time.Second, "the server commits all the same", func() (bool, string) { return tab.count(t, tab.url) == 1, "" })
	if seen, lost := p.Lost(loss); seen != 1 || lost != 1 {
		t.Errorf("%d of %d lost", lost, seen)
	}
}

// A connection that breaks before the server has heard of the commit leaves nothing.
func TestConnectionBreaksBeforeCommit(t *testing.T) {
	p, tab := commitProxy(t)
	loss := &Loss{Every: 1, When: BeforeCommit, Match: Holding("INTO number")}
	p.Lose(loss)
	one := connect(t, p.URL())
	if _, err := one.Exec(t.Context(), `INSERT INTO number VALUES ($1)`, 1); !broken(one, err) {
		t.Errorf("got %v, want a broken connection", err)
	}
	two := connect(t, p.URL())
	err := pgx.BeginFunc(t.Context(), two, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO number VALUES ($1)`, 2)
		if err != nil {
			t.Errorf("before the commit: %v", err)
		}
		return err
	})
	if !broken(two, err) {
		t.Errorf("got %v, want a broken connection", err)
	}
	observer := connect(t, tab.url)
	Eventually(t, 10*time.Second, "the server has noticed", func() (bool, string) {
		var n int
		must(t, observer.QueryRow(t.Context(), `
			SELECT count(*) FROM pg_locks WHERE relation = 'number'::regclass AND pid <> pg_backend_pid()`).Scan(&n))
		return n == 0, ""
	})
	if seen, lost := p.Lost(loss); seen != 2 || lost != 2 || tab.count(t, tab.url) != 0 {
		t.Errorf("%d of %d lost and %d rows, want 2 of 2 and none", lost, seen, tab.count(t, tab.url))
	}
}
