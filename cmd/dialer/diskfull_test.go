package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/dialer"
	"dialer/internal/simulator"
)

// disk makes dir a file system of its own that is as big as size says, where the test
// may do that.
func disk(t *testing.T, dir, size string) error {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		return fmt.Errorf("mount a small tmpfs: %w", err)
	}
	t.Cleanup(func() {
		// MNT_DETACH: a process that is just ending may still have a file open.
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return nil
}

// fill takes all the space that is left where path is; removing the file gives it back.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2] // to the last byte
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// exhaustWAL uses up the log files that a server has made in advance. Then it cannot
// write anything at all, and ends.
func exhaustWAL(t *testing.T, pg *server) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for range 1000 {
		if _, err := conn.Exec(t.Context(), `SELECT pg_logical_emit_message(true, 'test', 'x'), pg_switch_wal()`); err != nil {
			t.Logf("the log is full: %v", err)
			return
		}
	}
	t.Fatal("a thousand log files on a full disk")
}

// A database whose disk is full gets no intents, so nobody is called; receipts go to
// the node's own disk. With space again everything goes on by itself.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	if err := disk(t, dir, "200m"); err != nil {
		t.Logf("THE DATABASE'S FULL DISK IS NOT TESTED: %v; the node's own is, in TestSpoolFull", err)
		return
	}
	const contacts, rounds = 6000, 3
	pg := startServer(t, dir)
	state := t.TempDir()
	env := environment{"DATABASE_URL": pg.URL(), "DIALER_STATE": state}
	env.must(t, "migrate")
	sim := simulate(t, simulator.Config{})
	sim.prepare(t, env, contacts, "pace: 300") // there is work left while the disk fills
	n := startNode(t, env, "one")
	sim.pushTo(t, n.address)
	ballast := filepath.Join(dir, "ballast")
	strangers := 0
	var full, free [rounds]time.Time
	for i := range rounds {
		before := sim.Stats().Requests
		eventually(t, 60*time.Second, "more requests", func() (bool, string) {
			n := sim.Stats().Requests
			return n >= before+300, fmt.Sprintf("%d, %d before round %d", n, before, i)
		})
		fill(t, ballast)
		if i == rounds-1 {
			exhaustWAL(t, pg)
		}
		last, since := sim.Stats().Requests, time.Now()
		eventually(t, 60*time.Second, "no request for two seconds, and receipts on disk", func() (bool, string) {
			if n := sim.Stats().Requests; n != last {
				last, since = n, time.Now()
			}
			if time.Since(since) <= 2*time.Second {
				return false, fmt.Sprintf("%d requests", last)
			}
			if len(spooled(t, state)) > 0 {
				return true, ""
			}
			// The last receipts have still found room in the tables: more of them will not.
			status := pushStranger(t, n.address, strangers)
			if status != http.StatusOK {
				t.Fatalf("a push was answered with status %d while the database's disk was full", status)
			}
			strangers++
			return false, fmt.Sprintf("%d requests, nothing on disk after %d more pushes", last, strangers)
		})
		full[i] = since
		if last >= contacts {
			t.Fatalf("the disk was full after the work: %d requests", last)
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		free[i] = time.Now()
		pg.revive(t)
	}
	db := open(t, pg.URL())
	everyCallHasItsOutcome(t, db, sim, contacts)
	if n := count(t, db, `SELECT count(DISTINCT raw) FROM stranger`); n != strangers {
		t.Errorf("%d reports of strangers are stored, %d were taken", n, strangers)
	}
	if n := doubt(t, db); n != 0 {
		t.Errorf("%d attempts are in doubt, want none", n)
	}
	h := sim.history(t, contacts)
	h.agrees(t, db)
	for _, p := range h.pushes {
		for i := range rounds {
			if p.Wall.After(full[i]) && p.Wall.Before(free[i]) && !p.Acked {
				t.Errorf("a push was answered with status %d while the database's disk was full", p.Status)
			}
		}
	}
	if code := n.terminate(t, drainMost); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// pushStranger pushes a report of 50 KiB about a call that is none of ours to a node,
// and returns the status of its answer.
func pushStranger(t *testing.T, address string, number int) int {
	t.Helper()
	body := fmt.Appendf(nil, `[{"call_id":"%d","out_id":"somebody's","status_code":"200002","dynamic_id":"%s"}]`, number, bytes.Repeat([]byte("x"), 50<<10))
	resp, err := http.Post("http://"+address+"/receipts/tests/"+testReceiptSecret, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A spool that is full, by its own bound or because the disk is, refuses receipts with
// 503, which makes the platform come again, and loses none that it has taken.
func TestSpoolFull(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		state func(t *testing.T) (dir string, most int64)
	}{
		{"bound", func(t *testing.T) (string, int64) { return t.TempDir(), 1 << 20 }},
		{"disk", func(t *testing.T) (string, int64) {
			dir := t.TempDir()
			if err := disk(t, dir, "1m"); err != nil {
				t.Logf("THE FULL DISK ITSELF IS NOT TESTED: %v; a bound stands in for it", err)
				return dir, 1 << 20
			}
			return dir, 0
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pg := startServer(t, folder(t))
			env := environment{"DATABASE_URL": pg.URL()}
			env.must(t, "migrate")
			sim := simulate(t, simulator.Config{})
			sim.prepare(t, env, 1)
			db := open(t, pg.URL())
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			dir, most := test.state(t)
			a := &app{getenv: func(name string) string { return env[name] }}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- runNode(ctx, dialer.New(dialer.Config{
					DB: db, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Name: "here", Secret: a.secret, State: dir, SpoolMost: most,
				}), ln)
			}()
			t.Cleanup(func() {
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			push := func(number int) int {
				t.Helper()
				began := time.Now()
				status := pushStranger(t, ln.Addr().String(), number)
				if took := time.Since(began); took > 700*time.Millisecond {
					t.Errorf("push %d: an answer after %s", number, took)
				}
				return status
			}
			eventually(t, 30*time.Second, "the node", func() (bool, string) {
				status := push(0)
				return status == http.StatusOK, fmt.Sprint(status)
			})
			taken := 1

			pg.stop(t)
			for status := 0; status != http.StatusServiceUnavailable; {
				if status = push(taken); status == http.StatusOK {
					taken++
				} else if status != http.StatusServiceUnavailable {
					t.Fatalf("status %d", status)
				}
				if taken > 100 {
					t.Fatalf("%d pushes of 50 KiB were taken into 1 MiB", taken)
				}
			}
			if taken < 5 {
				t.Errorf("%d pushes were taken, want what fits into 1 MiB", taken)
			}
			if status := push(taken); status != http.StatusServiceUnavailable {
				t.Errorf("status %d from a full spool, want %d", status, http.StatusServiceUnavailable)
			}

			pg.start(t)
			eventually(t, 10*time.Second, "receipts are taken again", func() (bool, string) {
				status := push(taken)
				if status == http.StatusOK {
					taken++
				}
				return status == http.StatusOK, fmt.Sprint(status)
			})
			eventually(t, 10*time.Second, "every receipt that was taken", func() (bool, string) {
				n := count(t, db, `SELECT count(DISTINCT raw) FROM stranger`)
				return n == taken, fmt.Sprintf("%d, %d were taken", n, taken)
			})
			if left := spooled(t, dir); len(left) != 0 {
				t.Errorf("receipts still on disk: %v", left)
			}
		})
	}
}
