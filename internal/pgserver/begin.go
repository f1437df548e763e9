package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// begin starts the server. The caller holds the lock, and only in here is
// anything in the data folder touched.
func (s *Server) begin(ctx context.Context) error {
	last, _ := s.lock.note()
	last.Socket = s.settleLast(ctx, last.Socket)

	socket, err := socketFolder(cmp.Or(s.socket, last.Socket), s.owner)
	if err != nil {
		return err
	}
	switch s.socket {
	case socket: // joined before, and callers hold a URL with this folder in it
	case "":
		s.socket = socket
	default:
		return errors.Join(
			fmt.Errorf("the folder of the database's socket, %s, is not ours any more: start this program again", s.socket),
			os.Remove(socket))
	}

	proc, err := s.run(ctx)
	if err != nil && s.opts.scratch && ctx.Err() == nil {
		// Without fsync a power cut ruins the data; a scratch server just begins anew.
		if err := os.RemoveAll(s.data); err != nil {
			return fmt.Errorf("remove ruined scratch data: %w", err)
		}
		proc, err = s.run(ctx)
	}
	if err == nil {
		err = s.lock.write(note{Socket: s.socket, PID: os.Getpid(), Source: s.bin.String()})
		if err != nil {
			err = errors.Join(err, proc.stop())
		}
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(s.socket))
	}
	s.mu.Lock()
	s.proc = proc
	s.mu.Unlock()
	watching, stop := context.WithCancel(context.Background())
	s.stopWatching = stop
	s.watched.Go(func() { s.watch(watching) })
	return nil
}

// run makes the data if there is none, starts the server and waits until it answers.
func (s *Server) run(ctx context.Context) (*process, error) {
	log, err := openLog(s.data + ".log")
	if err != nil {
		return nil, err
	}
	defer log.f.Close() // the server has its own descriptor
	if err := s.initData(ctx, log); err != nil {
		return nil, err
	}
	// An earlier server may still be on its way out: its process died a moment ago.
	deadline := time.Now().Add(time.Minute)
	var wait backoff
	for {
		proc, err := s.launch(ctx, log)
		if err == nil {
			return proc, nil
		}
		if _, busy := errors.AsType[*busyError](err); !busy || time.Now().After(deadline) {
			return nil, err
		}
		if stop := wait.next(ctx); stop != nil {
			return nil, errors.Join(err, stop)
		}
	}
}

// initData makes the data folder if it is missing. It is made under another
// name and renamed when whole, so a kill leaves no half of one.
func (s *Server) initData(ctx context.Context, log *serverLog) error {
	_, err := os.Stat(filepath.Join(s.data, "PG_VERSION"))
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at the data folder: %w", err)
	}
	s.opts.Log.Info("making a new database", "data", s.data, "postgres", s.bin.version)
	fresh := s.data + ".new"
	err = os.RemoveAll(fresh)
	if err == nil {
		err = os.Mkdir(fresh, 0o700)
	}
	if err == nil {
		err = s.owner.give(fresh)
	}
	if err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	cmd := exec.Command(s.program("initdb"), s.initArgs(fresh)...)
	cmd.Stdout, cmd.Stderr = log.f, log.f
	log.mark()
	proc, err := spawn(cmd, s.owner, syscall.SIGKILL)
	if err != nil {
		return err
	}
	select {
	case <-proc.done:
	case <-ctx.Done():
		err := proc.stop()
		return errors.Join(fmt.Errorf("make the data folder: %w", context.Cause(ctx)), err)
	}
	if proc.err != nil {
		return fmt.Errorf("initdb: %w: %s", proc.err, log.tail())
	}
	if err := os.Rename(fresh, s.data); err != nil {
		return fmt.Errorf("put the new data folder in place: %w", err)
	}
	if s.opts.Fast {
		return nil
	}
	return syncFolder(s.dir)
}

// busyError says that the data is still in use by a server that is going away.
type busyError struct{ said string }

func (e *busyError) Error() string { return "postgres does not start: " + e.said }

// launch starts the server once and waits until it answers or ends.
func (s *Server) launch(ctx context.Context, log *serverLog) (*process, error) {
	cmd := exec.Command(s.program("postgres"), s.serverArgs()...)
	cmd.Stdout, cmd.Stderr = log.f, log.f
	log.mark()
	// SIGINT is a fast shutdown: connections are broken, nothing committed is lost.
	proc, err := spawn(cmd, s.owner, syscall.SIGINT)
	if err != nil {
		return nil, err
	}
	err = s.awaitReady(ctx, proc)
	if err == nil {
		// A Server that its owner has forgotten would be collected, its lock file be
		// closed, and another process take the server for a left-behind one and stop it.
		go func() {
			<-proc.done
			runtime.KeepAlive(s)
		}()
		return proc, nil
	}
	if !proc.ended() {
		return nil, errors.Join(err, proc.stop())
	}
	said := log.tail()
	// The farewell of an earlier server, which writes to the same log, may have pushed the
	// complaint about its lock file out of what is read.
	if strings.Contains(said, `lock file "postmaster.pid" already exists`) || strings.Contains(said, "pre-existing shared memory block") ||
		strings.Contains(said, "database system is shut down") {
		return nil, &busyError{said: said}
	}
	return nil, fmt.Errorf("%w: %s (more in %s)", err, said, log.f.Name())
}

// awaitReady returns when the database exists and answers, or the server has ended.
func (s *Server) awaitReady(ctx context.Context, proc *process) error {
	began, told := time.Now(), false
	var wait backoff
	for {
		err := ensureDatabase(ctx, s.socket)
		if err == nil {
			return nil
		}
		if proc.ended() {
			return fmt.Errorf("postgres ended while starting (%v)", proc.err)
		}
		if !told && time.Since(began) > 5*time.Second {
			told = true
			s.opts.Log.Info("postgres is still starting; after a kill it first recovers", "data", s.data)
		}
		if stop := wait.next(ctx); stop != nil {
			return fmt.Errorf("wait for postgres to start: %w (last answer: %w)", stop, err)
		}
	}
}

// ensureDatabase makes our database if it is missing.
func ensureDatabase(ctx context.Context, socket string) error {
	conn, err := connect(ctx, socketURL(socket, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, databaseName).Scan(&there); err != nil {
		return fmt.Errorf("look for the database: %w", err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+databaseName); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	return nil
}

// settleLast looks at the place noted by the last holder of the lock and
// returns it if it may be used again. A server of ours that still answers there
// outlived its process, which can happen only where the kernel does not tie the
// two together; it is told to stop. Another's server may answer there when
// somebody copied the data folder, note and all: that one is left alone.
func (s *Server) settleLast(ctx context.Context, socket string) string {
	if socket == "" {
		return ""
	}
	served, err := servedData(ctx, socket)
	if err != nil {
		return socket // nobody is there
	}
	if !sameFolder(served, s.data) {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(s.data, "postmaster.pid"))
	if err != nil {
		return "" // it is ending at this moment
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if pid, err := strconv.Atoi(line); err == nil && pid > 1 {
		s.opts.Log.Info("stopping a private postgres that was left behind", "pid", pid, "data", s.data)
		// If it fails, the start that follows says that the data is in use.
		_ = syscall.Kill(pid, syscall.SIGINT)
	}
	return ""
}

// servedData asks the server behind a socket for its data folder.
func servedData(ctx context.Context, socket string) (string, error) {
	conn, err := connect(ctx, socketURL(socket, databaseName))
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var dir string
	if err := conn.QueryRow(ctx, `SHOW data_directory`).Scan(&dir); err != nil {
		return "", fmt.Errorf("ask the server for its data folder: %w", err)
	}
	return dir, nil
}

// sameFolder reports whether two paths lead to one folder.
func sameFolder(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return pgx.Connect(ctx, url)
}

// backoff waits between two looks at something that takes a moment: 5 ms at
// first, then longer, up to 100 ms, each a little different so that several
// waiters do not march in step.
type backoff struct{ last time.Duration }

// next waits and returns nil, or returns the cause when ctx ends.
func (b *backoff) next(ctx context.Context) error {
	b.last = min(max(2*b.last, 5*time.Millisecond), 100*time.Millisecond)
	timer := time.NewTimer(b.last/2 + rand.N(b.last/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
