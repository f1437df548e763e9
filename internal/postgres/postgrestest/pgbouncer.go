package postgrestest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PgBouncer is one in front of a server of the tests, in transaction mode, with few
// connections of its own.
type PgBouncer struct {
	// URL is the address of the same database through it, as a node is to be given it.
	URL string

	program, config string
	owner           *syscall.Credential // nil: this process's own user
	cmd             *exec.Cmd
	said            *strings.Builder
	ended           chan struct{}
}

// connectionsOfPgBouncer is how many connections a PgBouncer of the tests makes for a
// database: fewer than the goroutines of a node, so that transactions of one take turns
// on several connections.
const connectionsOfPgBouncer = 3

// StartPgBouncer starts Debian's PgBouncer in front of the database at address. Where it
// is not installed it returns nil after it has said so: the test has to end then. In CI
// it fails the test.
func StartPgBouncer(t testing.TB, address string) *PgBouncer {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgbouncer") // not on the path of everybody
	}
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
	default:
		t.Log("NOT TESTED, because PgBouncer is not installed (Debian: apt-get install pgbouncer)")
		return nil
	}
	database, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "dialer-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &PgBouncer{program: program, config: filepath.Join(dir, "pgbouncer.ini")}
	// It refuses to run as root, and only one user may enter the folder of the socket.
	if os.Geteuid() == 0 {
		info, err := os.Stat(database.Host)
		if err != nil {
			t.Fatal(err)
		}
		of := info.Sys().(*syscall.Stat_t)
		b.owner = &syscall.Credential{Uid: of.Uid, Gid: of.Gid}
		if err := os.Chown(dir, int(of.Uid), int(of.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	password := ""
	if database.Password != "" {
		password = " password='" + database.Password + "'"
	}
	ini := fmt.Sprintf(`[databases]
%s = host=%s port=%d user=%s%s
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = %s
auth_type = any
admin_users = dialer
pool_mode = transaction
default_pool_size = %d
max_client_conn = 200
`, database.Database, database.Host, database.Port, database.User, password, dir, connectionsOfPgBouncer)
	if err := os.WriteFile(b.config, []byte(ini), 0o644); err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "postgres", User: url.User(database.User), Path: "/" + database.Database}
	u.RawQuery = url.Values{"host": {dir}, "port": {"6432"}, "pgbouncer": {"transaction"}}.Encode()
	b.URL = u.String()
	b.start(t)
	t.Cleanup(func() { b.stop() })
	return b
}

// Restart kills it, with everything that is under way, and starts it again.
func (b *PgBouncer) Restart(t testing.TB) {
	t.Helper()
	b.stop()
	b.start(t)
}

// Reconnect makes it give up its connections once they are not in use, so that new ones
// have the settings that a role has by now.
func (b *PgBouncer) Reconnect(t testing.TB) {
	t.Helper()
	conn, err := b.console(t.Context())
	if err != nil {
		t.Fatalf("the console of PgBouncer: %v; it said: %s", err, b.said)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), "RECONNECT"); err != nil {
		t.Fatal(err)
	}
}

func (b *PgBouncer) console(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(b.URL)
	if err != nil {
		return nil, err
	}
	delete(cfg.RuntimeParams, "pgbouncer")
	cfg.Database, cfg.User = "pgbouncer", "dialer"
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return pgx.ConnectConfig(ctx, cfg)
}

func (b *PgBouncer) start(t testing.TB) {
	t.Helper()
	b.said, b.ended = new(strings.Builder), make(chan struct{})
	b.cmd = exec.Command(b.program, b.config)
	b.cmd.Stdout, b.cmd.Stderr = b.said, b.said
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.owner}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		defer close(ended)
		cmd.Wait()
	}(b.cmd, b.ended)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		conn, err := b.console(t.Context())
		if err == nil {
			conn.Close(t.Context())
			return
		}
		select {
		case <-b.ended:
			t.Fatalf("PgBouncer has ended: %s", b.said)
		case <-deadline:
			t.Fatalf("PgBouncer does not answer: %v", err)
		case <-tick.C:
		}
	}
}

func (b *PgBouncer) stop() {
	b.cmd.Process.Kill()
	<-b.ended
}
