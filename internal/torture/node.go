package torture

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Build builds the real program with its crash points, once for the test's process,
// and returns its path. It is built without the race detector: nodes must reach the
// limit on a small machine. RemoveBuilt takes it away again.
func Build(t testing.TB) (program string) {
	t.Helper()
	program, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// builtIn is the folder of the built program.
var builtIn string

var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "dialer-torture-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	program := filepath.Join(dir, "dialer")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-tags", "failpoint", "-o", program, "dialer/cmd/dialer").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the program: %w: %s", err, out)
	}
	return program, nil
})

// RemoveBuilt removes what Build has made. It is for the TestMain of a package whose
// tests call Build, after the last of them.
func RemoveBuilt() error {
	if builtIn == "" {
		return nil
	}
	return os.RemoveAll(builtIn)
}

// NodeOptions says how a node is started.
type NodeOptions struct {
	Name string
	// Env is added to the test's own environment: DATABASE_URL and the like.
	Env []string
	// Args are further flags of 'dialer serve'.
	Args []string
	// Log is where lines of the node's log that are not INFO go; nil is the test's own
	// output.
	Log io.Writer
	// Network is where the node runs; nil is the machine's.
	Network *Namespace
	// Failpoints is what happens at which crash point, as package failpoint reads it:
	// "after_write=kill:17". It holds for the first start only.
	Failpoints string
}

// Node is a 'dialer serve' in a process of its own. Its methods may be called from any
// goroutine.
type Node struct {
	Name string

	t       testing.TB
	program string
	opts    NodeOptions
	address string // where it takes receipts

	mu   sync.Mutex
	life *life
	log  nodeLog
}

// life is one process of a node, from a start to its end.
type life struct {
	*process
	began chan struct{} // closed when it has said that it is a node
}

// StartNode starts a node and returns when it takes receipts.
func StartNode(t testing.TB, opts NodeOptions) *Node {
	t.Helper()
	n := &Node{Name: opts.Name, t: t, program: Build(t), opts: opts, address: loopback(port(t))}
	t.Cleanup(n.Kill)
	if err := n.Restart(opts.Failpoints); err != nil {
		t.Fatal(err)
	}
	return n
}

// nodeStarts is how long a node may take to begin; on a database that recovers it
// takes its time.
const nodeStarts = 60 * time.Second

// Restart starts the node again, at the same address, after it has ended. The crash
// points are those given here: the ones before have done their work.
func (n *Node) Restart(failpoints string) error {
	n.mu.Lock()
	if n.life != nil && n.life.alive() {
		n.mu.Unlock()
		return fmt.Errorf("node %s is to be started and has not ended", n.Name)
	}
	cmd := exec.Command(n.program, append([]string{"serve", "--listen", n.address, "--node", n.Name}, n.opts.Args...)...)
	cmd.Env = append(slices.Concat(os.Environ(), n.opts.Env), "DIALER_FAILPOINTS="+failpoints)
	l := &life{began: make(chan struct{})}
	cmd.Stderr = &lines{each: func(line string) { n.heard(l, line) }}
	var err error
	if l.process, err = start(n.opts.Network, cmd); err == nil {
		n.life = l
	}
	n.mu.Unlock()
	if err != nil {
		return err
	}
	timeout := time.NewTimer(nodeStarts)
	defer timeout.Stop()
	select {
	case <-l.began:
		return nil
	case <-l.ended:
		return fmt.Errorf("node %s ended before it began: %s", n.Name, n.log.last())
	case <-timeout.C:
		return fmt.Errorf("node %s does not begin: %s", n.Name, n.log.last())
	}
}

// heard takes one line of the node's log.
func (n *Node) heard(l *life, text string) {
	n.log.keep(text)
	var line struct{ Level, Msg, Receipts string }
	if err := json.Unmarshal([]byte(text), &line); err != nil || line.Level != "INFO" {
		fmt.Fprintf(n.out(), "node %s: %s\n", n.Name, text)
	}
	if line.Msg == "node started" && strings.Contains(line.Receipts, n.address) {
		close(l.began)
	}
}

func (n *Node) out() io.Writer {
	if n.opts.Log != nil {
		return n.opts.Log
	}
	return n.t.Output()
}

func (n *Node) current() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

// Address is where the node takes receipts: host and port. It outlives restarts.
func (n *Node) Address() string { return n.address }

// PID is the id of the node's process, or of its last one.
func (n *Node) PID() int { return n.current().cmd.Process.Pid }

// Exited is closed when the process that runs now has ended.
func (n *Node) Exited() <-chan struct{} { return n.current().ended }

// Running tells whether the node's process is there, frozen or not.
func (n *Node) Running() bool { return n.current().alive() }

// Kill ends the node as kill -9 does and waits until it is gone.
func (n *Node) Kill() {
	l := n.current()
	if l == nil {
		return
	}
	if err := l.end(syscall.SIGKILL, time.Minute); err != nil {
		n.t.Errorf("kill node %s: %v", n.Name, err)
	}
}

// Stop tells the node to end in order, waits for it, and returns its exit code and how
// long it took. A node that has not ended after two minutes is killed, which fails the
// test; so does one that is not running. The code is -1 then.
func (n *Node) Stop() (code int, took time.Duration) {
	l := n.current()
	if !l.alive() {
		n.t.Errorf("stop node %s: it has ended before: %s", n.Name, n.log.last())
		return -1, 0
	}
	began := time.Now()
	if err := l.end(syscall.SIGTERM, 2*time.Minute); err != nil {
		n.t.Errorf("stop node %s: %v", n.Name, err)
		n.Kill()
	}
	return l.cmd.ProcessState.ExitCode(), time.Since(began)
}

// Freeze stops the node's process where it is; Thaw lets it go on.
func (n *Node) Freeze() {
	if err := n.current().signal(syscall.SIGSTOP); err != nil {
		n.t.Errorf("freeze node %s: %v", n.Name, err)
	}
}

// Thaw lets a frozen node go on, also one that stopped itself at a crash point.
func (n *Node) Thaw() {
	if err := n.current().signal(syscall.SIGCONT); err != nil {
		n.t.Errorf("thaw node %s: %v", n.Name, err)
	}
}

// Frozen tells whether the process is stopped at this moment.
func (n *Node) Frozen() bool {
	state, _ := stat(n.PID())
	return state == "T"
}

// Logged tells whether a line of the node's log holds the text. Lines of earlier
// processes of the node count, too.
func (n *Node) Logged(text string) bool { return n.log.contains(text) }

// keptLines bounds what is kept of a node's log.
const keptLines = 20_000

// nodeLog is the newest lines of a log.
type nodeLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *nodeLog) keep(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 2*keptLines {
		l.lines = slices.Clone(l.lines[keptLines:])
	}
	l.lines = append(l.lines, line)
}

func (l *nodeLog) contains(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool { return strings.Contains(line, text) })
}

func (l *nodeLog) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 0 {
		return "it said nothing"
	}
	return l.lines[len(l.lines)-1]
}

// lines is an io.Writer that hands on what it is given line by line.
type lines struct {
	each func(line string)
	rest []byte
}

func (w *lines) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := slices.Index(w.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		w.each(string(w.rest[:i]))
		w.rest = w.rest[i+1:]
	}
}
