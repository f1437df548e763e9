// Package postgres is what the dialer remembers: every SQL statement of the
// program is here, a file per subject, and each exported method is tested on a
// real database. Methods speak the words of package campaign; a method that needs
// a transaction opens it itself. Every time is a parameter, but for two checks
// against the database's own clock: the lease and the calling window.
//
// A DB may be used by any number of goroutines at once.
package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialer/internal/campaign"
)

// DB is a pool of connections to a migrated database.
type DB struct {
	pool     *pgxpool.Pool
	key      campaign.OutIDKey
	instance string
}

// oldest is the oldest server the SQL is tested on, as server_version_num.
const oldest = 150000

// maxConns is how many connections a process may have at most. A node has about a dozen
// things to do at once for each account, and renewing the lease must not wait for a
// long one. A connection that has fallen silent takes its place for another 15 seconds
// while pgx says goodbye to it.
const maxConns = 24

// Open connects to the database that url names (a libpq URL or keyword string;
// pool_max_conns and its like are understood) and checks that its schema is this
// program's, that commits are durable for this role, and that the server is not
// older than 15.
func Open(ctx context.Context, url string) (*DB, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	return OpenConfig(ctx, cfg)
}

// OpenConfig is Open for a pool whose connections are made in a way of their own, as
// a simulation of faults needs them. It adds to cfg, which pgxpool.ParseConfig made.
func OpenConfig(ctx context.Context, cfg *pgxpool.Config) (*DB, error) {
	ofRole, err := session(cfg.ConnConfig)
	if err != nil {
		return nil, err
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "dialer"
	}
	if !strings.Contains(cfg.ConnString(), "pool_max_conns") {
		cfg.MaxConns = maxConns
	}
	// A server that falls silent, and does not close its connections, must not hold up
	// those who would find it, or its successor, well again.
	cfg.PingTimeout = cmp.Or(cfg.PingTimeout, 2*time.Second)
	cfg.ConnConfig.ConnectTimeout = cmp.Or(cfg.ConnConfig.ConnectTimeout, 5*time.Second)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	db := &DB{pool: pool}
	err = db.check(ctx)
	if err == nil && ofRole != nil {
		err = db.checkRole(ctx, ofRole)
	}
	if err != nil {
		pool.Close()
		return nil, throughPgBouncer(err)
	}
	return db, nil
}

func (db *DB) check(ctx context.Context) error {
	var version int
	var distributed, generic bool
	if err := db.pool.QueryRow(ctx, `
		SELECT current_setting('server_version_num')::int, to_regclass('pg_dist_partition') IS NOT NULL, current_setting('plan_cache_mode') = 'force_generic_plan'`).Scan(&version, &distributed, &generic); err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	switch {
	case version < oldest:
		return fmt.Errorf("the database server is PostgreSQL %d: 15 or newer is needed", version/10000)
	case distributed && generic:
		// Citus plans what is more than one step for the values at hand, or not at all.
		return errors.New("the database is one of Citus, which cannot plan for values that it does not know: add plan_cache_mode=auto to its URL")
	}
	if err := db.checkSchema(ctx); err != nil {
		return err
	}
	var key []byte
	if err := db.pool.QueryRow(ctx, `SELECT out_id_key, instance_id::text FROM instance`).Scan(&key, &db.instance); err != nil {
		return fmt.Errorf("read the key of the OutIds: %w", err)
	}
	db.key = campaign.OutIDKey(key)
	return nil
}

// Durable returns an error naming the setting if a commit of this role could be
// lost in a crash: a lost intent is a person who may be called twice.
func (db *DB) Durable(ctx context.Context) error {
	var off *string
	err := db.pool.QueryRow(ctx, `
		SELECT string_agg(name, ', ' ORDER BY name)
		  FROM pg_settings
		 WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'`).Scan(&off)
	if err != nil {
		return fmt.Errorf("read the durability settings: %w", err)
	}
	if off != nil {
		return fmt.Errorf("the database runs with %s = off: a crash could lose the record of a call and ring somebody twice; switch it on", *off)
	}
	return nil
}

// Close waits for the connections in use and closes them. It does not wait long: a
// server that has stopped answering must not keep a process from ending.
func (db *DB) Close() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		db.pool.Close()
	}()
	patience := time.NewTimer(closeMost)
	defer patience.Stop()
	select {
	case <-closed:
	case <-patience.C:
	}
}

// closeMost is how long a server may take to say goodbye.
const closeMost = 2 * time.Second

// InstanceID names this database among all others; a copy of it has the same name.
func (db *DB) InstanceID() string { return db.instance }

// OutIDKey returns the key under which this database's attempts are named.
func (db *DB) OutIDKey() campaign.OutIDKey { return db.key }

// Pool gives tests and ad-hoc queries the connections themselves.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// IsTransient tells whether an error of the store is one that waiting cures: a
// server that restarts, fails over or is out of space, a serialization failure,
// a dropped connection.
func IsTransient(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "40001", "40P01", "25006", "25P03", "55P03": // serialization, deadlock, read-only, idle for too long, lock timeout
			return true
		}
		switch pg.Code[:2] {
		case "08", "57", "53", "58": // connection, operator intervention, resources, system
			return true
		}
		// A statement of this node whose connection was lost has ended after all, and has
		// counted at the same moment: the same statement again finds its work done.
		return violated(err) == "progress_pkey"
	}
	if errors.Is(err, campaign.ErrNotFound) || errors.Is(err, context.Canceled) {
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true // refused, reset, timed out
	}
	return pgconn.SafeToRetry(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}

// violated returns the name of the constraint that err says was violated, or "". Citus
// puts the number of the shard behind it.
func violated(err error) string {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code[:2] != "23" {
		return ""
	}
	if name := strings.TrimRight(pg.ConstraintName, "0123456789"); strings.HasSuffix(name, "_") {
		return strings.TrimSuffix(name, "_")
	}
	return pg.ConstraintName
}

// notFound turns pgx.ErrNoRows into campaign.ErrNotFound, saying what was looked for.
func notFound(err error, format string, args ...any) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf(format+": %w", append(args, campaign.ErrNotFound)...)
	}
	return err
}

// null turns a zero time into SQL's null.
func null(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.Truncate(time.Microsecond) // what Postgres keeps
	return &t
}

// nullText turns an empty string into SQL's null.
func nullText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// secs renders a duration as a Postgres interval.
func secs(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', 6, 64) + " seconds"
}

// text makes a string from outside storable: Postgres refuses NUL and invalid UTF-8,
// and one such value would fail the whole batch it is in.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
