package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pooled is the parameter of a database URL by which the program knows that it is
// connected through PgBouncer: byTransaction, when each transaction is handed to any of
// its own connections, or bySession.
const (
	pooled        = "pgbouncer"
	byTransaction = "transaction"
	bySession     = "session"
)

// settings are what every session of the program needs of the server.
var settings = map[string]string{
	// The intent statement joins arrays of a batch with the big tables. Planned
	// for the values at hand it sometimes becomes a quadratic loop or a scan.
	"plan_cache_mode": "force_generic_plan",
	"jit":             "off",
	// A plan that was made while a table was empty reads the table from end to end, and
	// stays in force while it grows.
	"enable_seqscan": "off",
	// The server would keep the locks of a process that it cannot reach any more, and
	// nobody could apply receipts of those campaigns.
	"idle_in_transaction_session_timeout": "10s",
}

// session sets what a connection asks for when it is made: the program's settings,
// unless the URL has its own. PgBouncer refuses them: the connections that it makes have
// those of the role. session returns what the role must have then, else nil.
func session(cfg *pgx.ConnConfig) (ofRole map[string]string, err error) {
	mode, through := cfg.RuntimeParams[pooled]
	delete(cfg.RuntimeParams, pooled)
	switch {
	case through && mode != byTransaction && mode != bySession:
		return nil, fmt.Errorf("database URL: %s=%s is not known: it is %[1]s=%[3]s or %[1]s=%[4]s", pooled, mode, byTransaction, bySession)
	case through:
		ofRole = make(map[string]string)
		// What is prepared on one connection is not there on the next, unless PgBouncer, from
		// 1.21 on, sees to it and a person says so.
		if mode == byTransaction && !strings.Contains(cfg.ConnString(), "default_query_exec_mode") {
			cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
	}
	for name, value := range settings {
		own, set := cfg.RuntimeParams[name]
		switch {
		case through && set:
			ofRole[name] = own
			delete(cfg.RuntimeParams, name)
		case through:
			ofRole[name] = value
		case !set:
			cfg.RuntimeParams[name] = value
		}
	}
	// This one PgBouncer passes on.
	if _, set := cfg.RuntimeParams["timezone"]; !set {
		cfg.RuntimeParams["timezone"] = "UTC"
	}
	return ofRole, nil
}

// checkRole makes sure that the connections of PgBouncer have the settings that it does
// not pass on.
func (db *DB) checkRole(ctx context.Context, ofRole map[string]string) error {
	var wrong []string
	var role string
	for _, name := range slices.Sorted(maps.Keys(ofRole)) {
		var is string
		if err := db.pool.QueryRow(ctx, `SELECT current_setting($1), current_user`, name).Scan(&is, &role); err != nil {
			return fmt.Errorf("read the settings that PgBouncer's connections have: %w", err)
		}
		if is != ofRole[name] {
			wrong = append(wrong, fmt.Sprintf("%s = %s, not %s", name, is, ofRole[name]))
		}
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("connections through PgBouncer have %s: run 'dialer migrate --pgbouncer' as the role %s with the server's own address, then RECONNECT in PgBouncer's console",
		strings.Join(wrong, ", "), role)
}

// SettleRole gives the role of url, in its database, the settings that PgBouncer does not
// pass on. url is the server's own address.
func SettleRole(ctx context.Context, url string) error {
	cfg, err := direct(ctx, url)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("settle the role: connect to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := settings[name]
		if own, set := cfg.RuntimeParams[name]; set {
			value = own
		}
		var statement string
		err := conn.QueryRow(ctx, `SELECT format('ALTER ROLE %I IN DATABASE %I SET %I = %L', current_user, current_database(), $1::text, $2::text)`, name, value).Scan(&statement)
		if err == nil {
			_, err = conn.Exec(ctx, statement)
		}
		if err != nil {
			return fmt.Errorf("settle the role: %w", err)
		}
	}
	return nil
}

// direct is the address of a server for what one session must do from its first
// statement to its last.
func direct(ctx context.Context, url string) (*pgx.ConnConfig, error) {
	cfg, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	mode := cfg.ConnConfig.RuntimeParams[pooled]
	if mode == byTransaction {
		return nil, errThroughPgBouncer
	}
	delete(cfg.ConnConfig.RuntimeParams, pooled)
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	between, err := isPooler(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	if between && mode != bySession {
		return nil, errThroughPgBouncer
	}
	return cfg.ConnConfig, nil
}

// isPooler tells whether there is something between the program and the server that
// answers in its place: it gives a number of its own, by which it may be told to cancel.
func isPooler(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var pid uint32
	if err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeSimpleProtocol).Scan(&pid); err != nil {
		return false, err
	}
	return pid != conn.PgConn().PID(), nil
}

var (
	errThroughPgBouncer = errors.New("DATABASE_URL goes through PgBouncer, and this needs one session from its first statement to its last: give it the server's own address, without pgbouncer=transaction")
	errWhichPgBouncer   = errors.New("DATABASE_URL goes through PgBouncer: say in which mode, by pgbouncer=transaction or pgbouncer=session in the URL")
)

// checkPooler makes sure that the program is told of PgBouncer, which may be set to accept
// the program's settings and forget them.
func (db *DB) checkPooler(ctx context.Context, told bool) error {
	return db.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		between, err := isPooler(ctx, conn.Conn())
		if err == nil && between && !told {
			return errWhichPgBouncer
		}
		return err
	})
}

// throughPgBouncer explains an error that PgBouncer gives when the program is not told of
// it.
func throughPgBouncer(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && strings.Contains(pg.Message, "unsupported startup parameter") {
		return errWhichPgBouncer
	}
	return err
}
