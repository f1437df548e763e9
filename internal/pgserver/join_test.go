package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestServerLeftBehindIsStopped(t *testing.T) {
	dir := dataDir(t)
	left := mustStart(t, Options{Dir: dir, Fast: true})
	pid := serverPID(t, dir)
	// As if its process were gone and the kernel had not stopped the server.
	left.stopWatching()
	left.watched.Wait()
	left.lock.release()

	s := mustStart(t, Options{Dir: dir, Fast: true})
	if s.Joined() || serverPID(t, dir) == pid {
		t.Errorf("server %d was taken as one that another process runs", pid)
	}
	eventually(t, "the server which nobody owned is gone", func() bool { return !alive(pid) })
	if got := query(t, s.URL(), `SELECT 'answers'`); got != "answers" {
		t.Errorf("got %q", got)
	}
}

func TestCopiedFolderIsAnotherDatabase(t *testing.T) {
	dir := dataDir(t)
	original := mustStart(t, Options{Dir: dir, Fast: true})
	exec1(t, original.URL(), `DROP TABLE IF EXISTS only_here`)
	if err := original.Close(); err != nil {
		t.Fatal(err)
	}
	copied := openDir(t)
	if out, err := exec.Command("cp", "-a", dir+"/.", copied).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	a := mustStart(t, Options{Dir: dir, Fast: true})
	exec1(t, a.URL(), `CREATE TABLE only_here ()`)
	b := mustStart(t, Options{Dir: copied, Fast: true})

	if a.URL() == b.URL() || b.Joined() {
		t.Fatalf("the copy uses the server of the original: %s", b.URL())
	}
	if got := query(t, b.URL(), `SELECT count(*)::text FROM pg_class WHERE relname = 'only_here'`); got != "0" {
		t.Error("the copy shows the original's tables")
	}
	if got := query(t, a.URL(), `SELECT count(*)::text FROM pg_class WHERE relname = 'only_here'`); got != "1" {
		t.Error("the original lost its server to the copy")
	}
}

func TestCopyOfRunningFolderLeavesTheOriginalAlone(t *testing.T) {
	dir := dataDir(t)
	original := mustStart(t, Options{Dir: dir, Fast: true})
	pid := serverPID(t, dir)
	copied := openDir(t)
	// Files may change under cp; what matters are the note and postmaster.pid.
	if out, err := exec.Command("cp", "-a", dir+"/.", copied).CombinedOutput(); err != nil {
		t.Logf("cp: %v: %s", err, out)
	}
	start := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		s, err := Start(ctx, Options{Dir: copied, Fast: true, Log: testLog(t)})
		if err == nil {
			s.Close()
		}
		return err
	}

	if err := start(3 * time.Second); err == nil {
		t.Error("a copy of data in use was started, want to wait until it is free")
	}

	// While a first process starts on the copy, the old note leads to the original.
	first, err := openLock(filepath.Join(copied, filepath.Base(original.data)+".lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	if ok, err := first.try(); !ok || err != nil {
		t.Fatalf("the copy's lock: %v, %v", ok, err)
	}
	if err := start(time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside a process that is starting: %v, want to wait for it", err)
	}

	if got := query(t, original.URL(), `SELECT 'answers'`); got != "answers" || serverPID(t, dir) != pid {
		t.Errorf("the original was disturbed: %q", got)
	}
}

func TestSecondProcessJoinsAndTakesOver(t *testing.T) {
	dir := dataDir(t)
	o := startOther(t, dir)()
	if o.Joined {
		t.Fatal("the first process joined somebody")
	}
	exec1(t, o.URL, `DROP TABLE IF EXISTS kept_by_takeover; CREATE TABLE kept_by_takeover AS SELECT 'yes' AS answer`)

	s := mustStart(t, Options{Dir: dir, Fast: true})
	if !s.Joined() {
		t.Fatal("Joined() = false beside a running server")
	}
	if s.URL() != o.URL {
		t.Errorf("joined %s, want %s", s.URL(), o.URL)
	}
	if want := fmt.Sprintf("running already as process %d", o.cmd.Process.Pid); !strings.Contains(s.Source(), want) {
		t.Errorf("Source() = %q, want %q in it", s.Source(), want)
	}

	o.end(t)
	eventually(t, "the joined process took the server over", func() bool { return !s.Joined() })
	if got := query(t, s.URL(), `SELECT answer FROM kept_by_takeover`); got != "yes" {
		t.Errorf("after the take-over the table says %q", got)
	}
	if s.URL() != o.URL {
		t.Errorf("the address moved to %s in the take-over", s.URL())
	}
}

func TestCloseOfJoinedLeavesServer(t *testing.T) {
	dir := dataDir(t)
	owner := mustStart(t, Options{Dir: dir, Fast: true})
	joined := mustStart(t, Options{Dir: dir, Fast: true})
	if !joined.Joined() {
		t.Fatal("Joined() = false")
	}
	if err := joined.Close(); err != nil {
		t.Fatal(err)
	}
	if got := query(t, owner.URL(), `SELECT 'answers'`); got != "answers" {
		t.Errorf("got %q", got)
	}
}

func TestTwoProcessesAtOnce(t *testing.T) {
	dir := openDir(t)
	waitA, waitB := startOther(t, dir), startOther(t, dir)
	a, b := waitA(), waitB()
	if a.URL != b.URL {
		t.Errorf("two servers on one folder: %s and %s", a.URL, b.URL)
	}
	if a.Joined == b.Joined {
		t.Errorf("joined: %v and %v, want one of each", a.Joined, b.Joined)
	}
	if got := query(t, b.URL, `SELECT 'answers'`); got != "answers" {
		t.Errorf("got %q", got)
	}
}
