package torture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/pgserver"
)

// PostgresOptions says what a server is like. The zero value is a durable one on the
// machine's disk.
type PostgresOptions struct {
	// Memory is the size, such as "200m", of a file system in memory that holds the
	// data and can be filled; "" is the disk. See CanMount.
	Memory string
	// Settings are further settings, such as "max_wal_size=64MB".
	Settings []string
}

// Postgres is a server of the test's own that can be mistreated. It is durable, is the
// superuser "dialer" to everybody on the machine, and has the empty database "dialer".
// Started again, it is reached at the same addresses.
type Postgres struct {
	install  *pgserver.Installation
	settings []string
	port     int
	parent   string // of data and log
	data     string
	socket   string // folder of the unix socket
	limited  bool   // parent is a file system of limited size

	mu     sync.Mutex
	server *process
}

// StartPostgres makes and starts a server that ends with the test.
func StartPostgres(t testing.TB, opts PostgresOptions) *Postgres {
	t.Helper()
	pg := newPostgres(t, opts)
	if err := pg.initialise(); err != nil {
		t.Fatal(err)
	}
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	return pg
}

// newPostgres settles where a server will live, which has no data yet.
func newPostgres(t testing.TB, opts PostgresOptions) *Postgres {
	t.Helper()
	install, err := pgserver.Locate(t.Context(), pgserver.Options{BinDir: os.Getenv("DIALER_PG_BIN"), AllowDownload: true})
	if err != nil {
		t.Fatal(err)
	}
	pg := &Postgres{install: install, settings: opts.Settings, port: port(t), parent: folder(t), socket: folder(t), limited: opts.Memory != ""}
	if pg.limited {
		if err := mount(pg.parent, opts.Memory); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unmount(pg.parent); err != nil {
				t.Error(err)
			}
		})
	}
	pg.data = filepath.Join(pg.parent, "data")
	for _, dir := range []string{pg.parent, pg.socket} {
		if err := install.Give(dir); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if pg.running() == nil {
			return
		}
		if err := pg.Stop(Immediate); err != nil {
			t.Error(err, pg.Kill9())
		}
	})
	return pg
}

// folder is a folder of the test through which another user may pass, with a name short
// enough for a socket in it.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dialer-torture-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// CanMount tells whether this process may make file systems of limited size.
func CanMount() bool { return canMount() }

var canMount = sync.OnceValue(func() bool {
	dir, err := os.MkdirTemp("", "dialer-torture-")
	if err != nil {
		return false
	}
	defer os.Remove(dir)
	return mount(dir, "1m") == nil && unmount(dir) == nil
})

func (pg *Postgres) initialise() error {
	// Unsynced: a power cut is the one thing that no test here survives anyway.
	return pg.run("initdb", "-D", pg.data, "-U", "dialer", "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-instructions", "--no-sync")
}

// run runs a program of the installation to its end.
func (pg *Postgres) run(program string, args ...string) error {
	out, err := pg.install.Command(program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// URL is the server's address over TCP.
func (pg *Postgres) URL() string { return databaseURL(pg.Addr(), "dialer") }

// Addr is host and port of the server.
func (pg *Postgres) Addr() string { return loopback(pg.port) }

// Socket is the path of the server's unix socket.
func (pg *Postgres) Socket() string {
	return filepath.Join(pg.socket, ".s.PGSQL."+strconv.Itoa(pg.port))
}

// databaseURL names a database of the superuser at a TCP address, without TLS, which
// the servers of tests do not have.
func databaseURL(address, database string) string {
	return (&url.URL{Scheme: "postgres", User: url.User("dialer"), Host: address, Path: "/" + database, RawQuery: "sslmode=disable"}).String()
}

// startsWithin bounds a start, with a recovery before it.
const startsWithin = 60 * time.Second

// Start starts the server after it was stopped or killed and returns when it answers.
func (pg *Postgres) Start() error {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if pg.server != nil && pg.server.alive() {
		return errors.New("the server is to be started and runs already")
	}
	deadline := time.Now().Add(startsWithin)
	for {
		err := pg.launch(deadline)
		// What a killed server leaves, its memory and the id in its file, may take a
		// moment to be free.
		if err == nil || time.Now().After(deadline) || !errors.Is(err, errEarlyEnd) {
			return err
		}
	}
}

var errEarlyEnd = errors.New("postgres ended while starting")

func (pg *Postgres) launch(deadline time.Time) error {
	log, err := os.OpenFile(filepath.Join(pg.socket, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the server has its own descriptor
	args := []string{"-D", pg.data}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(pg.port), "unix_socket_directories=" + pg.socket,
		"fsync=on", "full_page_writes=on", "synchronous_commit=on",
		"max_connections=200", "shared_buffers=128MB", "timezone=UTC", "log_timezone=UTC", "jit=off",
	}, pg.settings...) {
		args = append(args, "-c", setting)
	}
	cmd := pg.install.Command("postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := start(nil, cmd)
	if err != nil {
		return err
	}
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		err := pg.ensureDatabase()
		if err == nil {
			tick.Stop()
			pg.server = p
			return nil
		}
		select {
		case <-p.ended:
			tick.Stop()
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%w: %s", errEarlyEnd, text[max(0, len(text)-1000):])
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			tick.Stop()
			return errors.Join(fmt.Errorf("postgres does not answer: %w", err), p.end(syscall.SIGKILL, time.Minute))
		}
	}
}

// ensureDatabase returns when the server answers and has our database.
func (pg *Postgres) ensureDatabase() error {
	return pg.as("postgres", func(ctx context.Context, conn *pgx.Conn) error {
		var there, standby bool
		err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'dialer'), pg_is_in_recovery()`).Scan(&there, &standby)
		if err == nil && !there && !standby {
			_, err = conn.Exec(ctx, `CREATE DATABASE dialer`)
		}
		return err
	})
}

// as calls f with a connection to the server itself, past every proxy.
func (pg *Postgres) as(database string, f func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startsWithin)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL(pg.Addr(), database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return f(ctx, conn)
}

// StopMode is a way to stop a server in order.
type StopMode syscall.Signal

// Ways to stop a server.
const (
	Fast      = StopMode(syscall.SIGINT)  // breaks the connections, writes a checkpoint
	Immediate = StopMode(syscall.SIGQUIT) // ends at once, recovers at its next start
)

// Stop stops the server and waits until it has ended.
func (pg *Postgres) Stop(mode StopMode) error {
	p := pg.running()
	if p == nil {
		return errors.New("the server is to be stopped and does not run")
	}
	return errorOf("stop postgres", p.end(syscall.Signal(mode), time.Minute))
}

func (pg *Postgres) running() *process {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if pg.server == nil || !pg.server.alive() {
		return nil
	}
	return pg.server
}

// Kill9 kills the postmaster and all of its processes by SIGKILL, and returns when they
// are gone.
func (pg *Postgres) Kill9() error {
	p := pg.running()
	if p == nil {
		return errors.New("the server is to be killed and does not run")
	}
	// Frozen, the postmaster starts no more of them, and none can become another's child.
	err := p.signal(syscall.SIGSTOP)
	backends, listed := children(p.cmd.Process.Pid)
	for _, pid := range backends {
		if killed := syscall.Kill(pid, syscall.SIGKILL); killed != nil && !errors.Is(killed, syscall.ESRCH) {
			err = errors.Join(err, killed)
		}
	}
	err = errors.Join(err, listed, p.end(syscall.SIGKILL, time.Minute))
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, pid := range backends {
		for state, _ := stat(pid); state != "" && state != "Z"; state, _ = stat(pid) {
			if time.Now().After(deadline) {
				return errors.Join(err, fmt.Errorf("process %d of postgres has not ended after kill -9", pid))
			}
			<-tick.C
		}
	}
	return errorOf("kill postgres", err)
}

// TerminateBackends ends all connections of clients, and returns how many there were.
func (pg *Postgres) TerminateBackends() (n int, err error) {
	err = pg.as("postgres", func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `
			SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
			  FROM pg_stat_activity
			 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`).Scan(&n)
	})
	return n, errorOf("terminate the backends", err)
}

// Standby makes and starts a server that follows this one asynchronously, reaching it
// at the given address: a Proxy there can break the link.
func (pg *Postgres) Standby(t testing.TB, primary string) *Postgres {
	t.Helper()
	standby := newPostgres(t, PostgresOptions{Settings: pg.settings})
	source := databaseURL(primary, "postgres")
	if err := pg.run("pg_basebackup", "-d", source, "-D", standby.data, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync"); err != nil {
		t.Fatal(err)
	}
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	return standby
}

// Synchronous lets every commit wait for a standby, and returns when one follows.
func (pg *Postgres) Synchronous() error {
	err := pg.as("postgres", func(ctx context.Context, conn *pgx.Conn) error {
		for _, sql := range []string{`ALTER SYSTEM SET synchronous_standby_names = '*'`, `SELECT pg_reload_conf()`} {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var follows bool
			err := conn.QueryRow(ctx, `
				SELECT current_setting('synchronous_standby_names') = '*' AND EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')`).Scan(&follows)
			if err != nil || follows {
				return err
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return errorOf("let commits wait for a standby", err)
}

// Unlock lets commits wait for no standby any more, from the next start on.
func (pg *Postgres) Unlock() error {
	return errorOf("let commits wait for no standby", os.Remove(filepath.Join(pg.data, "postgresql.auto.conf")))
}

// Promote makes a standby a server of its own.
func (pg *Postgres) Promote() error {
	err := pg.as("postgres", func(ctx context.Context, conn *pgx.Conn) error {
		var promoted bool
		err := conn.QueryRow(ctx, `SELECT pg_promote(true, 60)`).Scan(&promoted)
		if err == nil && !promoted {
			err = errors.New("it is none after a minute")
		}
		return err
	})
	return errorOf("promote a standby", err)
}

// ColdCopy stops the server, copies its data and starts it again. The copy, which has
// not been started, has addresses of its own: started, it is a clone; put back by
// Restore, it is an old backup.
func (pg *Postgres) ColdCopy(t testing.TB) *Postgres {
	t.Helper()
	copied := newPostgres(t, PostgresOptions{Settings: pg.settings})
	if err := errors.Join(pg.Stop(Fast), copyData(pg.data, copied.data), pg.Start()); err != nil {
		t.Fatal(err)
	}
	return copied
}

// Restore stops the server and starts it again with the data of a copy, at its own
// addresses.
func (pg *Postgres) Restore(from *Postgres) error {
	if from.running() != nil {
		return errors.New("data is restored from a server that runs: stop it first")
	}
	if pg.running() != nil {
		if err := pg.Stop(Fast); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(pg.data); err != nil {
		return errorOf("remove the data of postgres", err)
	}
	if err := copyData(from.data, pg.data); err != nil {
		return err
	}
	return pg.Start()
}

// copyData copies a data folder with its owner and its rights.
func copyData(from, to string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the data of postgres: %w: %s", err, out)
	}
	return nil
}

// Fill takes all the space that is left beside data in memory. Free gives it back.
func (pg *Postgres) Fill() error {
	if !pg.limited {
		return errors.New("only data in memory is filled: the disk has other users")
	}
	f, err := os.Create(pg.ballast())
	if err != nil {
		return err
	}
	defer f.Close()
	block := []byte(strings.Repeat("x", 1<<16))
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return errorOf("fill the disk", err)
	}
	return nil
}

// Free gives back what Fill has taken.
func (pg *Postgres) Free() error {
	if err := os.Remove(pg.ballast()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (pg *Postgres) ballast() string { return filepath.Join(pg.parent, "ballast") }
