package lab

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestStatIsRead(t *testing.T) {
	// The name of a program may hold spaces and parentheses.
	const line = "4711 (a) 1 (b) S 17 4711 4711 0 -1 4194304 500 0 0 0 150 50 7 3 20 0 1 0 12345 1000 200"
	s, err := parseStat(line)
	if err != nil {
		t.Fatal(err)
	}
	if want := (stat{parent: 17, own: 2 * time.Second, gone: 100 * time.Millisecond}); s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	for _, bad := range []string{"", "4711 (a) S 17", strings.Replace(line, " 150 ", " x ", 1)} {
		if s, err := parseStat(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, s)
		}
	}
}

// CPU is the kernel's own figure, while the process runs and after its end.
func TestCPUOfAProcess(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "while :; do :; done"))
	if err != nil {
		t.Fatal(err)
	}
	var running time.Duration
	for deadline := time.Now().Add(30 * time.Second); running < 50*time.Millisecond; {
		if running, err = p.CPU(); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("a busy loop has used %s in half a minute", running)
		}
		time.Sleep(5 * time.Millisecond)
	}
	tree, err := treeCPU(os.Getpid())
	if err != nil || tree < running {
		t.Errorf("we and our child: got %s, %v, want at least %s", tree, err, running)
	}
	if err := p.End(syscall.SIGTERM, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if after, err := p.CPU(); err != nil || after < running {
		t.Errorf("after its end: got %s, %v, want at least %s", after, err, running)
	}
}

func TestAProcessThatDoesNotEndIsKilled(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "while :; do sleep 1; done"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.End(syscall.SIGSTOP, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "had not ended") {
		t.Errorf("got %v, want that it had not ended", err)
	}
	select {
	case <-p.Ended():
	default:
		t.Error("it is still there")
	}
}
