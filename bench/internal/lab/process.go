package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a program that was started. It does not outlive us.
type Process struct {
	*exec.Cmd
	ended chan struct{} // closed when it has ended and its output was read
}

// Start starts a program in a process group of its own.
func Start(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second // for output that a grandchild holds open
	p := &Process{Cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux ties the child to the thread that forked it. Never unlocked: the thread
		// ends with the goroutine.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is read from its ProcessState
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// Self is a command that runs this program's own subcommand, in a process of its own.

func Self(args ...string) *exec.Cmd { return exec.Command("/proc/self/exe", args...) }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// End sends a signal and waits for the end; a process that takes longer is killed,
// which is an error.
func (p *Process) End(s syscall.Signal, within time.Duration) error {
	if err := p.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to process %d: %w", s, p.Process.Pid, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(within):
	}
	_ = p.Process.Kill()
	<-p.ended
	return fmt.Errorf("%s had not ended %s after %s", p.Path, within, s)
}

// CPU is the processor time that the process has used so far, all its threads together.
func (p *Process) CPU() (time.Duration, error) {
	select {
	case <-p.ended:
		return p.ProcessState.UserTime() + p.ProcessState.SystemTime(), nil
	default:
	}
	s, err := readStat(p.Process.Pid)
	return s.own, err
}

// Used is the processor time that this process has used so far.
func Used() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic("getrusage of oneself: " + err.Error()) // it has no way to fail
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// stat is what Linux says of a process.
type stat struct {
	parent int
	own    time.Duration // CPU of its threads
	gone   time.Duration // CPU of its children that have ended
}

// tick is the unit of times in /proc, the same on every Linux that Go runs on.
const tick = 10 * time.Millisecond

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return parseStat(string(text))
}

// parseStat reads the fields of proc_pid_stat(5).
func parseStat(text string) (stat, error) {
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("processor time of a process: %q is not a line of /proc/PID/stat", text)
	}
	var s stat
	var ticks [4]time.Duration // utime, stime, cutime, cstime
	var errs [5]error
	s.parent, errs[4] = strconv.Atoi(fields[1])
	for i := range ticks {
		n, err := strconv.ParseInt(fields[11+i], 10, 64)
		ticks[i], errs[i] = time.Duration(n)*tick, err
	}
	s.own, s.gone = ticks[0]+ticks[1], ticks[2]+ticks[3]
	return s, errors.Join(errs[:]...)
}

// treeCPU is the CPU of a process and its children, those that have ended included.
func treeCPU(pid int) (time.Duration, error) {
	root, err := readStat(pid)
	if err != nil {
		return 0, err
	}
	total := root.own + root.gone
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		child, err := strconv.Atoi(filepath.Base(e))
		if err != nil {
			continue
		}
		if s, err := readStat(child); err == nil && s.parent == pid {
			total += s.own
		}
	}
	return total, nil
}
