package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"dialer/internal/pgserver"
)

// Postgres is a durable server of a section's own: fsync, full pages and synchronous
// commits are on, as in production.
type Postgres struct {
	*pgserver.Server
	pid int // of the postmaster, the parent of all others
}

// Postgres starts a server with an empty database. Settings such as
// "max_wal_size=8GB" may be those that need no restart.
func (l *Lab) Postgres(ctx context.Context, settings ...string) (*Postgres, error) {
	dir, err := os.MkdirTemp(l.Dir, "postgres-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	server, err := pgserver.Start(ctx, pgserver.Options{Dir: dir, BinDir: os.Getenv("DIALER_PG_BIN")})
	if err != nil {
		return nil, err
	}
	p := &Postgres{Server: server}
	if err := p.prepare(ctx, settings); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	return p, nil
}

func (p *Postgres) prepare(ctx context.Context, settings []string) error {
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return fmt.Errorf("connect to the postgres of the bench: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		if _, err := conn.Exec(ctx, "ALTER SYSTEM SET "+pgx.Identifier{name}.Sanitize()+" = '"+value+"'"); err != nil {
			return fmt.Errorf("set %s: %w", s, err)
		}
	}
	var data string
	if err := conn.QueryRow(ctx, "SELECT current_setting('data_directory') FROM pg_reload_conf()").Scan(&data); err != nil {
		return err
	}
	note, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return fmt.Errorf("which process is postgres: %w", err)
	}
	first, _, _ := strings.Cut(string(note), "\n")
	p.pid, err = strconv.Atoi(first)
	return err
}

// CPU is the processor time that the server has used so far, all its processes together.
func (p *Postgres) CPU() (time.Duration, error) { return treeCPU(p.pid) }
