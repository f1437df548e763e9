package pgserver

import (
	"cmp"
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

// process is a child that does not outlive us.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended
	err  error         // how it ended; read it after done
}

// spawn starts cmd as the given user in a process group of its own: a Ctrl-C in
// the terminal is for us, and the server must still be there while we finish.
func spawn(cmd *exec.Cmd, o owner, atDeath syscall.Signal) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: o.credential()}
	dieWithParent(cmd.SysProcAttr, atDeath)
	cmd.Env = serverEnv()
	cmd.Dir = "/" // our own folder may be closed to the server's user
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.keep(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// keep starts the child and waits for its end. Linux ties "die with the parent"
// to the thread that forked, and Go ends threads as it likes; so this goroutine
// keeps its thread to itself for as long as the child lives.
func (p *process) keep(started chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// ended reports whether the child has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop ends a server: first so that it need not recover at its next start
// ("fast"), then less and less politely. No way loses a commit.
func (p *process) stop() error {
	for _, way := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{
		{syscall.SIGINT, 30 * time.Second}, // fast: writes a checkpoint first
		{syscall.SIGQUIT, 10 * time.Second},
		{syscall.SIGKILL, 10 * time.Second},
	} {
		if err := p.cmd.Process.Signal(way.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop the private postgres: %w", err)
		}
		timeout := time.NewTimer(way.wait)
		select {
		case <-p.done:
			timeout.Stop()
			return nil
		case <-timeout.C:
		}
	}
	return fmt.Errorf("stop the private postgres: process %d does not end", p.cmd.Process.Pid)
}

// serverEnv is the whole environment of the server. It gets none of ours, where
// the platform's keys are, and no PG* variable can change what it does.
func serverEnv() []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
}

// serverArgs are the arguments of postgres. Everything is given here and
// nothing is written into the data folder, so an update of this program
// changes the settings of old data too.
func (s *Server) serverArgs() []string {
	settings := []string{
		"listen_addresses=",
		"unix_socket_directories=" + `"` + strings.ReplaceAll(s.socket, `"`, `""`) + `"`,
		"unix_socket_permissions=0600",
		"port=" + socketPort,
		"max_connections=" + strconv.Itoa(cmp.Or(s.opts.MaxConnections, 100)),
		"timezone=UTC",
		"log_timezone=UTC",
		"jit=off", // our queries are short; compiling one costs more than it saves
		"max_wal_size=2GB",
		// The log must not hold phone numbers: no statements, no "Key (phone)=(...)".
		"log_min_messages=warning",
		"log_min_error_statement=panic",
		"log_error_verbosity=terse",
		"log_checkpoints=off",
		"logging_collector=off",
	}
	if s.opts.Fast {
		settings = append(settings, "shared_buffers=64MB", "fsync=off", "full_page_writes=off", "synchronous_commit=off")
	} else {
		settings = append(settings, "shared_buffers=256MB", "fsync=on", "full_page_writes=on", "synchronous_commit=on")
	}
	args := []string{"-D", s.data}
	for _, set := range settings {
		args = append(args, "-c", set)
	}
	return args
}

// initArgs are the arguments of initdb for the new folder dir. The C locale
// exists everywhere and never changes its order under an index.
func (s *Server) initArgs(dir string) []string {
	args := []string{"-D", dir, "-U", roleName, "--encoding=UTF8", "--locale=C",
		"--auth-local=trust", "--auth-host=reject", "--no-instructions"}
	if s.opts.Fast {
		args = append(args, "--no-sync")
	}
	return args
}

// program is the path of one of the binaries.
func (s *Server) program(name string) string { return filepath.Join(s.bin.dir, name) }
