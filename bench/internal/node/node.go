package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"dialer/bench/internal/lab"
)

// Node is a 'dialer serve' in a process of its own.
type Node struct {
	Name string

	site    *Site
	process *lab.Process
	log     *nodeLog
}

// starts is how long a node may take to begin.
const starts = 20 * time.Second

// Start starts a node, with further flags, and returns when it works.
func (s *Site) Start(name string, flags ...string) (*Node, error) {
	cmd := exec.Command(s.program, append([]string{"serve", "--listen", "127.0.0.1:0", "--node", name}, flags...)...)
	cmd.Env = s.env
	n := &Node{Name: name, site: s, log: &nodeLog{began: make(chan struct{})}}
	cmd.Stderr = n.log
	var err error
	if n.process, err = lab.Start(cmd); err != nil {
		return nil, err
	}
	s.nodes = append(s.nodes, n)
	select {
	case <-n.log.began:
		return n, nil
	case <-n.process.Ended():
		return nil, fmt.Errorf("node %s ended: %s", name, n.log.text())
	case <-time.After(starts):
		return nil, fmt.Errorf("node %s does not begin: %s", name, n.log.text())
	}
}

// Kill ends the node as kill -9 does.
func (n *Node) Kill() error {
	n.site.forget(n)
	return n.process.End(syscall.SIGKILL, 10*time.Second)
}

// Stop tells the node to end in order, and waits.
func (n *Node) Stop() error {
	n.site.forget(n)
	err := n.process.End(syscall.SIGTERM, time.Minute)
	if code := n.process.ProcessState.ExitCode(); err == nil && code != 0 {
		err = fmt.Errorf("node %s ended with code %d: %s", n.Name, code, n.log.text())
	}
	return err
}

// Freeze stops the process where it is; Thaw lets it go on.
func (n *Node) Freeze() error { return n.process.Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen node go on.
func (n *Node) Thaw() error { return n.process.Process.Signal(syscall.SIGCONT) }

// CPU is the processor time that the node has used so far.
func (n *Node) CPU() (time.Duration, error) { return n.process.CPU() }

func (n *Node) alive() bool {
	select {
	case <-n.process.Ended():
		return false
	default:
		return true
	}
}

// heldAt is when the node said last that it holds an account; zero if it gave it back
// since, or never had one.
func (n *Node) heldAt() time.Time {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	return n.log.held
}

// nodeLog reads what a node says, line by line, and keeps what is not ordinary.
type nodeLog struct {
	began chan struct{} // closed when the node works

	mu   sync.Mutex
	rest []byte
	held time.Time
	kept bytes.Buffer
}

// keptLog bounds what is kept of a log.
const keptLog = 64 << 10

func (g *nodeLog) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rest = append(g.rest, p...)
	for {
		line, rest, ok := bytes.Cut(g.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		g.heard(line)
		g.rest = rest
	}
}

func (g *nodeLog) heard(text []byte) {
	var line struct{ Level, Msg string }
	if err := json.Unmarshal(text, &line); errors.Is(err, io.EOF) {
		return
	}
	if line.Level != "INFO" && g.kept.Len() < keptLog {
		g.kept.Write(append(text, '\n'))
	}
	switch line.Msg {
	case "node started":
		close(g.began)
	case "account held":
		g.held = time.Now()
	case "account lost to another node", "account given up":
		g.held = time.Time{}
	}
}

func (g *nodeLog) text() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.kept.String()
}
