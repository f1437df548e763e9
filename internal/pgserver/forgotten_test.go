package pgserver

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// A server whose Server nobody holds any more goes on, and nobody else gets its data.
func TestForgottenServerKeepsItsLock(t *testing.T) {
	dir, err := os.MkdirTemp("", "dialer-forgotten-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	var proc *process
	var data string
	func() {
		s, err := start(t.Context(), Options{Dir: dir, Fast: true}, false)
		if err != nil {
			t.Fatal(err)
		}
		proc, data = s.proc, s.data
	}()
	t.Cleanup(func() {
		if err := proc.stop(); err != nil {
			t.Error(err)
		}
	})
	for range 5 {
		runtime.GC() // the second time, what finalizers held is collected, too
	}
	l, err := openLock(filepath.Clean(data) + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if got, err := l.try(); err != nil || got {
		t.Errorf("lock: got it %v, %v; want it held", got, err)
	}
}
