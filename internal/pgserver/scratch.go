package pgserver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// slots bounds how many scratch servers a user can have at once.
const slots = 64

// StartScratch starts a server for tests: without durability, joined by nobody,
// and empty but for the database "dialer". The folders of earlier scratch
// servers that are not in use are taken again, so nothing piles up and most
// starts need no initdb. Dir, when set, is where those folders are.
func StartScratch(ctx context.Context, opts Options) (*Server, error) {
	base := opts.Dir
	if base == "" {
		cache, err := cacheFolder()
		if err != nil {
			return nil, err
		}
		base = filepath.Join(cache, "scratch")
	}
	opts.Fast, opts.scratch = true, true
	if opts.MaxConnections == 0 {
		opts.MaxConnections = 300 // many tests with a small pool each
	}
	for n := range slots {
		opts.Dir = filepath.Join(base, strconv.Itoa(n))
		s, err := start(ctx, opts, false)
		if errors.Is(err, errInUse) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := sweep(ctx, s.socket); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		return s, nil
	}
	return nil, fmt.Errorf("%d scratch databases are in use in %s: end some of the test runs", slots, base)
}

// sweep drops the databases that killed test runs left. No one else uses them: we hold the lock.
func sweep(ctx context.Context, socket string) error {
	conn, err := connect(ctx, socketURL(socket, "postgres"))
	if err != nil {
		return fmt.Errorf("sweep the scratch server: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `
		SELECT datname
		FROM pg_database
		WHERE datname NOT IN ('postgres', 'template0', 'template1')`)
	if err != nil {
		return fmt.Errorf("sweep the scratch server: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("sweep the scratch server: %w", err)
	}
	for _, name := range names {
		quoted := pgx.Identifier{name}.Sanitize()
		_, err := conn.Exec(ctx, `ALTER DATABASE `+quoted+` IS_TEMPLATE false`) // a template cannot be dropped
		if err == nil {
			_, err = conn.Exec(ctx, `DROP DATABASE `+quoted+` WITH (FORCE)`)
		}
		if err != nil {
			return fmt.Errorf("sweep the scratch server: %w", err)
		}
	}
	return ensureDatabase(ctx, socket)
}
