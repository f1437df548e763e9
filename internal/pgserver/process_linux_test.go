package pgserver

import (
	"testing"
)

func TestServerDiesWithItsProcess(t *testing.T) {
	dir := dataDir(t)
	o := startOther(t, dir)()
	exec1(t, o.URL, `DROP TABLE IF EXISTS kept_by_kill; CREATE TABLE kept_by_kill AS SELECT 'yes' AS answer`)
	pid := serverPID(t, dir)

	if err := o.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// At once, while the old server may still be on its way out.
	s := mustStart(t, Options{Dir: dir, Fast: true})

	// Its process number stays until the system has noted its death.
	eventually(t, "the server of the killed process is gone", func() bool { return !alive(pid) })
	if s.Joined() {
		t.Error("joined the server of a killed process")
	}
	if got := query(t, s.URL(), `SELECT answer FROM kept_by_kill`); got != "yes" {
		t.Errorf("after the kill the table says %q", got)
	}
}

func TestServerGoesWithoutAnyoneStartingAgain(t *testing.T) {
	dir := dataDir(t)
	o := startOther(t, dir)()
	pid := serverPID(t, dir)
	if err := o.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server is gone after kill -9 of its process", func() bool { return !alive(pid) })

	s := mustStart(t, Options{Dir: dir, Fast: true})
	if s.URL() != o.URL {
		t.Errorf("the socket folder of the killed process was left lying; the new one is %s", s.URL())
	}
}
